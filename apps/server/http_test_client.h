// A client for tests: raw sockets, blocking, every wait at most ten seconds; plain or TLS.
//
// It sends bytes as they are, so that a test can send what no proper client would. Used by tests of
// the HTTP layer and of what is built on it.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hadal::server {

struct Response {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  [[nodiscard]] std::string header(std::string_view name) const {
    for (const auto& [other, value] : headers)
      if (other == name) return value;
    return "";
  }
};

class Client {
 public:
  explicit Client(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval wait = {.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) close();
  }
  Client(Client&& other) noexcept
      : socket_(std::exchange(other.socket_, -1)), read_(std::move(other.read_)) {}
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  virtual ~Client() {
    if (socket_ >= 0) ::close(socket_);
  }

  void send(std::string_view bytes) { try_send(bytes); }
  /// False: the other side has gone.
  bool try_send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = put(bytes);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  void shut_writing() { ::shutdown(socket_, SHUT_WR); }
  void close() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }
  void reset() {
    const linger now = {.l_onoff = 1, .l_linger = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }

  /// What comes up to and with `mark`; all that comes, if the connection ends before.
  std::string read_until(std::string_view mark) {
    size_t found = 0;
    while ((found = read_.find(mark)) == std::string::npos)
      if (!fill()) return std::exchange(read_, {});
    return take(found + mark.size());
  }
  std::string read_all() {
    while (fill());
    return std::exchange(read_, {});
  }
  /// The server has closed, and sent nothing more.
  bool at_end() { return read_all().empty() && ended_; }
  bool was_reset() {
    read_all();
    return error_ == ECONNRESET;
  }
  /// One whole response.
  Response response(bool body = true) {
    Response out;
    std::string_view rest;
    const std::string head = read_until("\r\n\r\n");
    if (std::sscanf(head.c_str(), "HTTP/1.1 %d ", &out.status) != 1) return out;
    rest = std::string_view(head).substr(head.find("\r\n") + 2);
    while (rest.size() > 2) {
      const size_t end = rest.find("\r\n"), colon = rest.find(": ");
      if (end == std::string_view::npos || colon > end) break;
      out.headers.emplace_back(rest.substr(0, colon), rest.substr(colon + 2, end - colon - 2));
      rest.remove_prefix(end + 2);
    }
    if (!body) return out;
    if (out.header("transfer-encoding") == "chunked") {
      while (true) {
        const size_t size = std::stoul("0" + read_until("\r\n"), nullptr, 16);
        const std::string chunk = read_count(size + 2);
        if (size == 0 || chunk.size() < size + 2) return out;
        out.body += chunk.substr(0, size);
      }
    }
    if (const std::string length = out.header("content-length"); !length.empty())
      out.body = read_count(std::stoul(length));
    return out;
  }

 protected:
  virtual ssize_t put(std::string_view bytes) {
    return ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  virtual ssize_t get(char* out, size_t size) { return ::recv(socket_, out, size, 0); }
  int socket_ = -1;

 private:
  bool fill() {
    char buffer[65536];
    if (socket_ < 0) return ended_ = true, false;
    const ssize_t count = get(buffer, sizeof buffer);
    if (count < 0) error_ = errno;
    if (count == 0 || (count < 0 && error_ == ECONNRESET)) ended_ = true;
    if (count <= 0) return false;
    read_.append(buffer, static_cast<size_t>(count));
    return true;
  }
  std::string take(size_t count) {
    std::string out = read_.substr(0, count);
    read_.erase(0, count);
    return out;
  }
  std::string read_count(size_t count) {
    while (read_.size() < count && fill());
    return take(std::min(count, read_.size()));
  }

  std::string read_;
  bool ended_ = false;
  int error_ = 0;
};

/// The same through TLS; certificates are not checked.
class TlsClient final : public Client {
 public:
  explicit TlsClient(uint16_t port, int most_version = 0)
      : Client(port), context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free) {
    if (most_version != 0) {
      SSL_CTX_set_security_level(context_.get(), 0);
      SSL_CTX_set_min_proto_version(context_.get(), 0);
      SSL_CTX_set_max_proto_version(context_.get(), most_version);
    }
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), socket_);
    shaken_ = SSL_connect(ssl_.get()) == 1;
  }
  [[nodiscard]] bool shaken() const { return shaken_; }
  /// The server said that it ends.
  [[nodiscard]] bool ended_well() const { return ended_well_; }

 protected:
  ssize_t put(std::string_view bytes) override {
    return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
  }
  ssize_t get(char* out, size_t size) override {
    const int count = SSL_read(ssl_.get(), out, static_cast<int>(size));
    if (count <= 0) ended_well_ = SSL_get_error(ssl_.get(), count) == SSL_ERROR_ZERO_RETURN;
    return count;
  }

 private:
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::unique_ptr<SSL, void (*)(SSL*)> ssl_ = {nullptr, SSL_free};
  bool shaken_ = false;
  bool ended_well_ = false;
};

/// A certificate that signed itself and its key, as files that go with the object.
class TestCertificate {
 public:
  TestCertificate() {
    folder_ = std::filesystem::temp_directory_path() /
              ("hadal_tls_" + std::to_string(::getpid()) + "_" +
               std::to_string(reinterpret_cast<uintptr_t>(this)));
    std::filesystem::create_directories(folder_);
    const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const std::unique_ptr<X509, void (*)(X509*)> made(X509_new(), X509_free);
    X509_set_version(made.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(made.get()), -60);
    X509_gmtime_adj(X509_getm_notAfter(made.get()), 3600);
    X509_set_pubkey(made.get(), key.get());
    X509_NAME* name = X509_get_subject_name(made.get());
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
    X509_set_issuer_name(made.get(), name);
    X509_sign(made.get(), key.get(), EVP_sha256());
    if (FILE* file = std::fopen(certificate().c_str(), "w")) {
      PEM_write_X509(file, made.get());
      std::fclose(file);
    }
    if (FILE* file = std::fopen(this->key().c_str(), "w")) {
      PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
      std::fclose(file);
    }
  }
  ~TestCertificate() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  TestCertificate(const TestCertificate&) = delete;
  TestCertificate& operator=(const TestCertificate&) = delete;
  [[nodiscard]] std::string certificate() const { return folder_ / "certificate.pem"; }
  [[nodiscard]] std::string key() const { return folder_ / "key.pem"; }

 private:
  std::filesystem::path folder_;
};

}  // namespace hadal::server
