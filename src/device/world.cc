#include "device/world.h"

#include <string_view>

#include "device/guarded.h"
#include "device/plugins.h"
#include "hadal/comm.h"

namespace hadal {
namespace {

class World final : public Communicator {
 public:
  explicit World(const hadal_world& world) : world_(world) {}
  ~World() override {
    if (!left_) world_.abort(&world_, "it is gone before the others were done");
  }

  [[nodiscard]] int64_t rank() const override { return world_.rank; }
  [[nodiscard]] int64_t ranks() const override { return world_.ranks; }

  Status all_reduce(std::span<float> values) override {
    hadal_error error = empty_error();
    return check(world_.all_reduce(&world_, values.data(), values.size(), &error), error);
  }
  Status broadcast(std::span<std::byte> bytes) override {
    hadal_error error = empty_error();
    return check(world_.broadcast(&world_, bytes.data(), bytes.size(), &error), error);
  }
  Status barrier() override {
    hadal_error error = empty_error();
    return check(world_.barrier(&world_, &error), error);
  }
  void abort(std::string_view why) override {
    left_ = true;
    world_.abort(&world_, std::string(why).c_str());
  }
  Status leave() override {
    HADAL_TRY(barrier());  // an error here is told; one while closing could not be
    left_ = true;
    world_.close(&world_);
    return {};
  }

 private:
  static hadal_error empty_error() {
    hadal_error error{};
    error.size = sizeof error;
    return error;
  }
  [[nodiscard]] Status check(hadal_status status, const hadal_error& error) const {
    if (status == HADAL_OK) return {};
    return failed(std::string(world_.name) + ", rank " + std::to_string(world_.rank) + " of " +
                  std::to_string(world_.ranks) + ": " +
                  (error.text[0] != '\0' ? error.text : "it failed and does not say why"));
  }

  hadal_world world_;
  bool left_ = false;
};

}  // namespace

Result<std::unique_ptr<Communicator>> join_world(const std::string& name,
                                                 std::span<const std::filesystem::path> folders) {
  HADAL_TRY(const hadal_world_query_fn query, load_world_plugin(name, folders));
  Guarded<hadal_world> guarded;
  hadal_world& world = guarded.value;
  hadal_error error{};
  error.size = sizeof error;
  if (query(HADAL_WORLD_ABI, &world, &error) != HADAL_OK)
    return failed(name + ": " +
                  (error.text[0] != '\0' ? error.text
                                         : "the processes do not join, and it does not say why"));
  if (!guarded.kept())
    return failed(name + ": wrote more than the " + std::to_string(sizeof world) +
                  " bytes of the table that it was given; it was built for another Hadal");
  if (!world.close || !world.all_reduce || !world.broadcast || !world.barrier || !world.abort)
    return failed(name + ": lacks a function of hadal/comm.h; it was built for another Hadal");
  if (world.ranks < 1 || world.rank < 0 || world.rank >= world.ranks)
    return failed(name + ": says rank " + std::to_string(world.rank) + " of " +
                  std::to_string(world.ranks));
  world.name[sizeof world.name - 1] = '\0';
  return std::unique_ptr<Communicator>(std::make_unique<World>(world));
}

}  // namespace hadal
