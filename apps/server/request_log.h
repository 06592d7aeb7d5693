// RequestLog: one line a request, as text for people or as JSON.
//
// No prompt, no answer and no key is in it. What comes from a client (path, names, ids) is written
// printably, so that no line can play tricks with a terminal.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "server/reply.h"

namespace hadal::server {

struct RequestRecord {
  std::string method = {}, path = {}, peer = {}, id = {};
  std::string trace = {};  ///< the trace id of a W3C traceparent
  int status = 0;
  std::string key = {};    ///< its name
  std::string model = {};  ///< what answered
  std::string end = {};    ///< how it ended, "" where that says nothing
  std::string error = {};  ///< what was wrong
  UsageCounts usage = {};
  double first_token_seconds = -1;  ///< -1: there was none
  double seconds = 0;
  std::vector<std::string> ignored = {};  ///< fields of the body that mean nothing here
};

/// With the time in front, without a newline.
std::string text_line(const RequestRecord& record);
std::string json_line(const RequestRecord& record);

/// The trace id of a `traceparent` header (W3C Trace Context, version 00), "" if it is malformed.
std::string trace_id(std::string_view traceparent);

}  // namespace hadal::server
