// SPDX-License-Identifier: Apache-2.0
// C++ ends the program: die throw (nobody catches) | terminate | pure (a pure virtual call) | noexcept (an exception meets
// a noexcept function) | at (std::vector::at) | join (a joinable std::thread is destroyed) | null (a virtual call through
// a null pointer) | deleted (a virtual call of an object that was overwritten). `caught` throws and catches, and answers `caught`.
#pragma GCC optimize("no-devirtualize", "no-devirtualize-speculatively")
#include "server.h"

#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

// Known to everybody, so that the compiler cannot know all that derives from it.
struct Shape;
Shape *volatile last; /* what the compiler reads from it is any shape */
APART int measure();

struct Shape {
  Shape() {
    last = this;
    side = measure();
  }
  virtual ~Shape() = default;
  virtual int area() = 0;
  int side = 3;
};

APART int measure() { return last->area(); }

struct Square : Shape {
  int area() override { return side * side; }
};

namespace {

alignas(16) char text[64];
volatile bool yes = true;
std::unique_ptr<Shape> none;

APART void fail() {
  if (yes) throw std::runtime_error("the request is not to my taste");
}

APART void promise() noexcept { fail(); }

APART int end(const std::string &word) {
  std::vector<int> numbers(10, 1);
  if (word == "throw") fail();
  if (word == "terminate") std::terminate();
  if (word == "pure") return Square().area();
  if (word == "noexcept") promise();
  if (word == "at") return numbers.at(numbers.size() + static_cast<size_t>(yes));
  if (word == "join") std::thread left([] {});
  if (word == "null") return none->area();
  if (word == "deleted") {
    memset(text, 0x41, sizeof text);
    last = reinterpret_cast<Shape *>(text);
    return measure();
  }
  return 0;
}

int caught(struct session *session, char *) {
  try {
    fail();
  } catch (const std::exception &) {
    answer(session, "caught\n");
  }
  return 0;
}

} // namespace

static int die(struct session *session, char *word) {
  answer(session, "alive %d\n", end(word));
  return 0;
}

const struct command commands[] = {{"caught", caught}, {NULL, NULL}};
static void prepare(void) {}
