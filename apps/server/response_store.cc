#include "server/response_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "checkpoint/printable.h"

namespace hadal::server {
namespace {

constexpr int kWaitMs = 2000;  ///< for a process that is about to close the file
/// "HDLR", and the version of the table.
constexpr int kApplication = 0x48444C52, kVersion = 1;

constexpr const char* kSettings =
    "PRAGMA locking_mode = EXCLUSIVE;"
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = NORMAL;"
    "PRAGMA secure_delete = ON;"
    "PRAGMA journal_size_limit = 16777216;"
    "PRAGMA trusted_schema = OFF;";
constexpr const char* kSchema =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE responses (number INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL,"
    " id TEXT NOT NULL, created INTEGER NOT NULL, bytes INTEGER NOT NULL, response TEXT NOT NULL,"
    " items TEXT NOT NULL, UNIQUE (owner, id));"
    "PRAGMA application_id = 1212435538;"
    "PRAGMA user_version = 1;"
    "COMMIT;";
static_assert(kApplication == 1212435538 && kVersion == 1, "as the schema writes them");

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
struct FinishStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;

/// One statement, from its text to its last row.
class Statement {
 public:
  Statement(sqlite3* database, const char* sql) {
    sqlite3_stmt* statement = nullptr;
    code_ = sqlite3_prepare_v2(database, sql, -1, &statement, nullptr);
    statement_.reset(statement);
  }
  Statement& bind(int64_t value) {
    if (code_ == SQLITE_OK) code_ = sqlite3_bind_int64(statement_.get(), ++bound_, value);
    return *this;
  }
  /// The text must outlive the statement.
  Statement& bind(std::string_view text) {
    if (code_ == SQLITE_OK)
      code_ = sqlite3_bind_text64(statement_.get(), ++bound_, text.data() ? text.data() : "",
                                  text.size(), SQLITE_STATIC, SQLITE_UTF8);
    return *this;
  }
  /// SQLITE_ROW, SQLITE_DONE, or what failed.
  int step() { return code_ == SQLITE_OK ? sqlite3_step(statement_.get()) : code_; }
  [[nodiscard]] int64_t number(int column) const {
    return sqlite3_column_int64(statement_.get(), column);
  }
  [[nodiscard]] std::string text(int column) const {
    const void* bytes = sqlite3_column_blob(statement_.get(), column);
    const int count = sqlite3_column_bytes(statement_.get(), column);
    return bytes ? std::string(static_cast<const char*>(bytes), static_cast<size_t>(count))
                 : std::string();
  }

 private:
  std::unique_ptr<sqlite3_stmt, FinishStatement> statement_;
  int code_ = SQLITE_OK, bound_ = 0;
};

int64_t bytes_of(std::string_view owner, std::string_view id, const StoredResponse& stored) {
  return static_cast<int64_t>(owner.size() + id.size() + stored.response.size() +
                              stored.items.size());
}

/// The file, readable to its user alone: SQLite gives its journal the same mode.
Status create_private(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (file < 0)
    return failed(printable(path, 300) + ": the store of responses cannot be opened: " +
                  std::strerror(errno) + "; give a path that can be written");
  struct stat state{};
  const bool plain = fstat(file, &state) == 0 && S_ISREG(state.st_mode);
  ::close(file);
  if (!plain)
    return failed(printable(path, 300) +
                  ": is no plain file; give another path to the store of responses");
  return {};
}

}  // namespace

struct ResponseStore::Impl {
  std::string path;
  StoreBounds bounds;
  Database database;
  mutable std::mutex mutex;
  int64_t responses = 0, bytes = 0;  // under the mutex, as all below

  Error error(std::string_view what) const {
    return failed((path.empty() ? std::string("the store of responses") : printable(path, 300)) +
                  ": " + std::string(what) + ": " +
                  (database ? sqlite3_errmsg(database.get()) : "out of memory"));
  }
  Status run(const char* sql, std::string_view what) {
    if (sqlite3_exec(database.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK)
      return error(what);
    return {};
  }
  Result<int64_t> number(const char* sql) {
    Statement statement(database.get(), sql);
    if (statement.step() != SQLITE_ROW) return error("cannot be read");
    return statement.number(0);
  }
  Status open();
  Status check();
  Status insert(std::string_view owner, std::string_view id, const StoredResponse& stored);
  Status remove(std::string_view owner, std::string_view id);
  Status make_room();
};

Status ResponseStore::Impl::open() {
  if (!path.empty()) HADAL_TRY(create_private(path));
  sqlite3* opened = nullptr;
  const int code =
      sqlite3_open_v2(path.empty() ? ":memory:" : path.c_str(), &opened,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  database.reset(opened);
  if (code != SQLITE_OK) return error("the store of responses cannot be opened");
  sqlite3_busy_timeout(database.get(), kWaitMs);
  if (sqlite3_exec(database.get(), kSettings, nullptr, nullptr, nullptr) != SQLITE_OK) {
    const int why = sqlite3_errcode(database.get());
    if (why == SQLITE_BUSY)
      return error(
          "the store of responses is open in another process; stop it, or give another path");
    if (why == SQLITE_NOTADB || why == SQLITE_CORRUPT)
      return error("is no sound store of responses; move it away, or give another path");
    return error("the store of responses cannot be opened");
  }
  HADAL_TRY(check());
  HADAL_TRY(responses, number("SELECT count(*) FROM responses"));
  HADAL_TRY(bytes, number("SELECT coalesce(sum(bytes), 0) FROM responses"));
  // The bounds may have shrunk since the last time.
  HADAL_TRY(run("BEGIN IMMEDIATE", "the store of responses cannot be written"));
  HADAL_TRY(make_room());
  return run("COMMIT", "the store of responses cannot be written");
}

/// A new file gets its table; an old one must be ours, and sound.
Status ResponseStore::Impl::check() {
  HADAL_TRY(const int64_t application, number("PRAGMA application_id"));
  HADAL_TRY(const int64_t version, number("PRAGMA user_version"));
  HADAL_TRY(const int64_t tables, number("SELECT count(*) FROM sqlite_schema"));
  if (application == 0 && version == 0 && tables == 0)
    return run(kSchema, "the store of responses cannot be written");
  if (application != kApplication)
    return failed(printable(path, 300) +
                  ": is another program's database; give another path to the store of responses");
  if (version != kVersion)
    return failed(printable(path, 300) + ": is a store of responses of version " +
                  std::to_string(version) + ", version " + std::to_string(kVersion) +
                  " is expected; move it away, or give another path");
  Statement sound(database.get(), "PRAGMA quick_check(1)");
  if (sound.step() != SQLITE_ROW || sound.text(0) != "ok")
    return failed(printable(path, 300) +
                  ": the store of responses is broken; move it away, or give another path");
  return {};
}

Status ResponseStore::Impl::remove(std::string_view owner, std::string_view id) {
  Statement sized(database.get(), "SELECT bytes FROM responses WHERE owner = ? AND id = ?");
  const int found = sized.bind(owner).bind(id).step();
  if (found == SQLITE_DONE) return {};
  if (found != SQLITE_ROW) return error("a response cannot be read");
  Statement statement(database.get(), "DELETE FROM responses WHERE owner = ? AND id = ?");
  if (statement.bind(owner).bind(id).step() != SQLITE_DONE)
    return error("a response cannot be removed");
  --responses;
  bytes -= sized.number(0);
  return {};
}

Status ResponseStore::Impl::insert(std::string_view owner, std::string_view id,
                                   const StoredResponse& stored) {
  HADAL_TRY(remove(owner, id));
  const int64_t size = bytes_of(owner, id, stored);
  Statement statement(database.get(),
                      "INSERT INTO responses (owner, id, created, bytes, response, items)"
                      " VALUES (?, ?, ?, ?, ?, ?)");
  statement.bind(owner).bind(id).bind(stored.created).bind(size);
  if (statement.bind(stored.response).bind(stored.items).step() != SQLITE_DONE)
    return error("a response cannot be stored");
  ++responses;
  bytes += size;
  return make_room();
}

/// Removes the oldest until the bounds hold.
Status ResponseStore::Impl::make_room() {
  while (responses > bounds.most_responses || bytes > bounds.most_bytes) {
    Statement oldest(database.get(),
                     "DELETE FROM responses WHERE number = (SELECT min(number) FROM responses)"
                     " RETURNING bytes");
    if (oldest.step() != SQLITE_ROW) return error("the oldest response cannot be removed");
    const int64_t freed = oldest.number(0);
    if (oldest.step() != SQLITE_DONE) return error("the oldest response cannot be removed");
    --responses;
    bytes -= freed;
  }
  return {};
}

ResponseStore::ResponseStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ResponseStore::~ResponseStore() = default;

Result<std::unique_ptr<ResponseStore>> ResponseStore::open(const std::string& path,
                                                           StoreBounds bounds) {
  if (bounds.most_responses < 1 || bounds.most_bytes < 1)
    return usage_error("the store of responses: its bounds are at least 1");
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->bounds = bounds;
  HADAL_TRY(impl->open());
  return std::unique_ptr<ResponseStore>(new ResponseStore(std::move(impl)));
}

Status ResponseStore::save(std::string_view owner, std::string_view id,
                           const StoredResponse& stored) {
  const std::lock_guard lock(impl_->mutex);
  Impl& impl = *impl_;
  if (const int64_t size = bytes_of(owner, id, stored); size > impl.bounds.most_bytes)
    return failed("the store of responses: " + quote(id) + " has " + std::to_string(size) +
                  " bytes, the bound of all responses is " +
                  std::to_string(impl.bounds.most_bytes) + "; it is not stored");
  const int64_t responses = impl.responses, bytes = impl.bytes;
  HADAL_TRY(impl.run("BEGIN IMMEDIATE", "a response cannot be stored"));
  Status done = impl.insert(owner, id, stored);
  if (done) done = impl.run("COMMIT", "a response cannot be stored");
  if (done) return {};
  // Some errors have rolled it back already.
  if (!sqlite3_get_autocommit(impl.database.get()))
    sqlite3_exec(impl.database.get(), "ROLLBACK", nullptr, nullptr, nullptr);
  impl.responses = responses;
  impl.bytes = bytes;
  return done;
}

Result<StoredResponse> ResponseStore::find(std::string_view owner, std::string_view id) {
  const std::lock_guard lock(impl_->mutex);
  Statement statement(impl_->database.get(),
                      "SELECT response, items, created FROM responses WHERE owner = ? AND id = ?");
  const int found = statement.bind(owner).bind(id).step();
  if (found == SQLITE_DONE) return not_found("no response " + quote(id) + " is stored here");
  if (found != SQLITE_ROW) return impl_->error("a response cannot be read");
  return StoredResponse{
      .response = statement.text(0), .items = statement.text(1), .created = statement.number(2)};
}

Status ResponseStore::erase(std::string_view owner, std::string_view id) {
  const std::lock_guard lock(impl_->mutex);
  const int64_t before = impl_->responses;
  HADAL_TRY(impl_->remove(owner, id));
  if (impl_->responses == before) return not_found("no response " + quote(id) + " is stored here");
  return {};
}

int64_t ResponseStore::responses() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->responses;
}

int64_t ResponseStore::bytes() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->bytes;
}

}  // namespace hadal::server
