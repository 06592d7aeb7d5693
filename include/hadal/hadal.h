/* Hadal as a library: language models answered inside a program. C11; nothing but C crosses it.
 *
 * A first program is a model opened (hadal_model_open), an answer begun (hadal_chat_start), its
 * text taken (hadal_answer_next), both given back. docs/library.md is the guide; this file says all
 * that holds.
 *
 * Structs. Each that may grow begins with its size: the caller writes sizeof into `size`, of those
 * that it fills and of those that the library fills. Zero in every other field is the default, so
 * `hadal_chat c = {.size = sizeof c}` is a whole one. Fields are only appended: a program that was
 * built with an older header works with a newer library. One that was built with a newer header
 * works with an older library while it uses nothing that this does not know; else it gets an error.
 * In a list of structs each has its own size, and lies behind the one before by that.
 *
 * Errors. A function that may fail returns a hadal_code, and fills the hadal_failure that its
 * caller owns (NULL: not wanted). Nothing aborts, exits, throws, prints, handles signals or reads
 * the environment. NULL where a thing is needed is an error; so is text that is not UTF-8.
 *
 * Texts come in as NUL-terminated UTF-8, and are copied before the call returns. Texts that come
 * out belong to the handle that they were got from, and live until that is freed, where nothing
 * else is said.
 *
 * Threads. Every function says who may call it. "Any thread" means at any time, beside any other
 * call on the same handle, but for the one that frees the handle. Callbacks come from threads of
 * the library, one at a time for each model; they may call everything that does not say otherwise,
 * and while one runs, the model's other answers are not told on (the model goes on computing).
 *
 * Lifetimes. What is freed must not be used again. Models, answers, grammars and conversations may
 * be freed in any order: a model that is closed ends its answers, which can still be read; freeing
 * NULL does nothing.
 */
#ifndef HADAL_HADAL_H
#define HADAL_HADAL_H

#include <stddef.h>
#include <stdint.h>

#include "hadal/version.h"

#if defined(HADAL_BUILDS_LIBRARY) && defined(__GNUC__)
#define HADAL_API __attribute__((visibility("default")))
#else
#define HADAL_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- versions ---- */

/* Of this header: the major number in the upper 16 bits, as in the library's file name; the minor
 * grows with what is appended. */
#define HADAL_LIBRARY_ABI_MAJOR 0u
#define HADAL_LIBRARY_ABI_MINOR 1u
#define HADAL_LIBRARY_ABI ((HADAL_LIBRARY_ABI_MAJOR << 16) | HADAL_LIBRARY_ABI_MINOR)

/* HADAL_LIBRARY_ABI of the library that is linked. Any thread. */
HADAL_API uint32_t hadal_library_abi(void);
/* Its version, "0.1.0"; static. Any thread. */
HADAL_API const char* hadal_library_version(void);

/* ---- errors ---- */

typedef enum hadal_code {
  HADAL_CODE_OK = 0,
  HADAL_CODE_FAILED = 1, /* unreadable or broken file, unknown architecture, failed device */
  HADAL_CODE_USAGE = 2,  /* wrong argument: a number out of its range, a grammar that is refused */
  HADAL_CODE_MEMORY = 3, /* memory or context too small */
  HADAL_CODE_NOT_FOUND = 4,     /* path or name not found */
  HADAL_CODE_BUSY = 5,          /* too much waits: try again later */
  HADAL_CODE_INTERNAL = 6,      /* a fault of the library's: please report its text */
  HADAL_CODE_INTERRUPTED = 130, /* cancelled, or the model was closed */
  HADAL_CODE_FORCE_32BIT = 0x7fffffff
} hadal_code;

/* Filled when a function does not return HADAL_CODE_OK, and left alone otherwise. */
typedef struct hadal_failure {
  uint32_t size;
  int32_t code;    /* hadal_code */
  char text[1016]; /* one line: the thing, what was expected, what was found, the remedy */
} hadal_failure;

/* "ok", "usage", …; static. Any thread. */
HADAL_API const char* hadal_code_name(int32_t code);

/* ---- where a model lies ---- */

/* Exactly one of path, descriptor and data. Of descriptor and data: a whole GGUF file. */
typedef struct hadal_source {
  uint32_t size;
  int32_t has_descriptor; /* 1: descriptor holds */
  const char* path;       /* a .gguf file (any part of a split), or a folder with config.json and
                           *.safetensors */
  int32_t descriptor; /* of a regular file; it stays the caller's, who may close it when the call
                         returns. The file must not change while the model is open */
  uint32_t reserved;
  const void* data; /* read in place: it must stay as it is until the model is closed */
  size_t data_bytes;
  const char* name; /* of descriptor and data: how messages call it; may be NULL */
} hadal_source;

/* ---- opening ---- */

typedef enum hadal_level {
  HADAL_LEVEL_INFO = 1,    /* what of the file is ignored, what memory did not allow */
  HADAL_LEVEL_WARNING = 2, /* what chips say from warnings on, a page file that fails */
  HADAL_LEVEL_ERROR = 3,
  HADAL_LEVEL_FORCE_32BIT = 0x7fffffff
} hadal_level;

/* A line for people, UTF-8, without an end of line; it dies with the call. From any thread; must
 * not call the library. */
typedef void (*hadal_log_fn)(void* context, uint32_t level, const char* text);
/* Bytes of weights that are ready, of all. From the thread that opens the model. Another value than
 * 0 cancels: opening ends with HADAL_CODE_INTERRUPTED. */
typedef int32_t (*hadal_progress_fn)(void* context, uint64_t done, uint64_t total);

typedef enum hadal_switch {
  HADAL_SWITCH_DEFAULT = 0, /* the model's, or what was said when it was opened */
  HADAL_SWITCH_ON = 1,
  HADAL_SWITCH_OFF = 2,
  HADAL_SWITCH_FORCE_32BIT = 0x7fffffff
} hadal_switch;

typedef enum hadal_cache_type {
  HADAL_CACHE_F16 = 0,
  HADAL_CACHE_BF16 = 1,
  HADAL_CACHE_F32 = 2,
  HADAL_CACHE_FORCE_32BIT = 0x7fffffff
} hadal_cache_type;

typedef struct hadal_adapter_folder {
  uint32_t size;
  uint32_t reserved;
  const char* name;   /* as requests call it */
  const char* folder; /* as peft writes it */
} hadal_adapter_folder;

/* An option of a chip's own: what there is stands in the chip's documentation. */
typedef struct hadal_chip_setting {
  uint32_t size;
  uint32_t reserved;
  const char* name;
  const char* value;
} hadal_chip_setting;

typedef struct hadal_model_options {
  uint32_t size;
  int32_t threads;  /* of the cpu chip; 0: what this process may use. All models of a process with
                       equally many share one pool of threads */
  const char* chip; /* "cpu" (NULL), "ref" or the path of a plug-in; a path is asked first in a
                       child process (fork), so that a broken plug-in is an error */
  const char* kernels; /* of the chip; NULL: the best */
  int64_t context; /* tokens of the longest sequence; 0: the model's limit, or what memory holds */
  int64_t cache_tokens;   /* that the caches hold, all sequences together; 0: what the context asks,
                             or   memory holds */
  int32_t max_sequences;  /* answers that are computed at once; 0: 8 */
  uint32_t cache_type;    /* hadal_cache_type */
  uint32_t exact;         /* 1: activations unrounded where the chip can */
  uint32_t prompt_lookup; /* hadal_switch: guess from the text so far; no token changes by it. On */
  double step_seconds;    /* how long a step should take; 0: 0.1; < 0: as long as its rows take */
  const char* chat_format;              /* by name; NULL: recognised */
  const char* pre_tokenizer;            /* of a GGUF that does not name its own; NULL: it does */
  const hadal_adapter_folder* adapters; /* loaded with the model */
  size_t adapter_count;
  uint32_t more_adapters; /* 1: hadal_adapter_load will be called */
  uint32_t ids_only;      /* 1: a missing or broken tokenizer is no error */
  const char* kv_file;    /* where prefixes go that memory has no room for, and that a model opened
                             later finds again: conversations go on without their prompt being
                             computed. One process at a time. NULL: none */
  uint64_t kv_file_bytes; /* its bound; 0: 8 GiB */
  hadal_log_fn log;       /* NULL: nothing is said */
  void* log_context;
  hadal_progress_fn progress; /* NULL: nobody asks */
  void* progress_context;
  int32_t device;    /* which of the chip's devices; 0: the first */
  int32_t ranks;     /* so many devices of the chip, from `device` on, divide the model; 0: one */
  const char* place; /* what is on other devices: "experts: cpu", "layers 20-: ./libhadal_X.so:1",
                        "auto"; NULL: nothing is */
  uint32_t fallback; /* 1: the cpu computes what the chip declines, and takes the part of a device
                        that stays away */
  uint32_t chip_setting_count;
  const hadal_chip_setting* chip_settings; /* of the chip `chip` */
} hadal_model_options;

/* What a model needs, before it is loaded. */
typedef struct hadal_plan {
  uint32_t size;
  uint32_t fits;            /* 1: needed <= available */
  uint64_t needed_bytes;    /* that must be in memory */
  uint64_t available_bytes; /* that the machine has now */
  uint64_t weight_bytes;    /* all, mapped ones too */
  uint64_t mapped_bytes; /* of those: read where the file is mapped, and given up under pressure */
  uint64_t cache_bytes;
  int64_t context;                 /* tokens that this is for */
  double decode_tokens_per_second; /* bound by this machine's measured peaks; 0: not measured */
  double prompt_tokens_per_second;
  char text[768]; /* the same in sentences, lines between; where it does not fit, what would */
} hadal_plan;

/* Opens the file and reads its header, loads nothing. `measure` 1: takes the machine's peaks, about
 * a second. HADAL_CODE_OK also where the model does not fit. Any thread. */
HADAL_API hadal_code hadal_model_plan(const hadal_source* source,
                                      const hadal_model_options* options, uint32_t measure,
                                      hadal_plan* out, hadal_failure* failure);

/* A loaded model with the thread that runs it. */
typedef struct hadal_model hadal_model;

/* Opens and loads; returns when the model is ready. `options` may be NULL. Any thread. */
HADAL_API hadal_code hadal_model_open(const hadal_source* source,
                                      const hadal_model_options* options, hadal_model** out,
                                      hadal_failure* failure);
/* Ends all answers with HADAL_END_INTERRUPTED, writes the page file, frees. Answers, grammars and
 * texts of answers stay readable. One thread, no callback of this model's (HADAL_CODE_USAGE there,
 * and nothing happens). NULL: nothing. */
HADAL_API hadal_code hadal_model_close(hadal_model* model, hadal_failure* failure);

/* Texts belong to the model. */
typedef struct hadal_model_info {
  uint32_t size;
  uint32_t has_tokenizer;
  const char* family;      /* model_type of its configuration: "qwen2", "deepseek_v3", … */
  const char* description; /* "GGUF v3, 2 files" */
  const char* tokenizer;   /* in words; "" without */
  const char* chat_format; /* "" if none is known: hadal_chat_start fails then */
  const char* chip;        /* "cpu (kernels avx2)" */
  const char* fingerprint; /* of all that an answer's bits depend on beside its request; another one
                              since the cpu took the part of a lost device */
  int64_t vocabulary;      /* ids, rows of logits */
  int64_t model_context;   /* the model's limit */
  int64_t context;         /* the longest sequence here: prompt and answer */
  int32_t bos;             /* -1: none */
  int32_t eos;
} hadal_model_info;
/* Any thread. */
HADAL_API hadal_code hadal_model_get_info(const hadal_model* model, hadal_model_info* out,
                                          hadal_failure* failure);

/* Since the model was opened. */
typedef struct hadal_counts {
  uint32_t size;
  uint32_t reserved;
  int64_t waiting, running; /* answers, now */
  int64_t steps, prompt_tokens, cached_tokens, new_tokens;
  int64_t drafted_tokens, accepted_tokens;
  double cache_used; /* 0 … 1 */
} hadal_counts;
/* Any thread. */
HADAL_API hadal_code hadal_model_get_counts(const hadal_model* model, hadal_counts* out,
                                            hadal_failure* failure);

/* ---- tokens ---- */

#define HADAL_TOKENIZE_BOS 1u   /* put the BOS token in front */
#define HADAL_TOKENIZE_PLAIN 2u /* text that looks like a special token stays text */

/* Writes at most `room` ids and tells in *count how many there are; more than room: call again.
 * `text` need not end in NUL. Any thread. */
HADAL_API hadal_code hadal_tokenize(const hadal_model* model, const char* text, size_t text_bytes,
                                    uint32_t flags, int32_t* ids, size_t room, size_t* count,
                                    hadal_failure* failure);

#define HADAL_DETOKENIZE_SKIP_SPECIAL 1u

/* Writes at most `room` bytes, no NUL, and tells in *bytes how many there are. They may begin or
 * end inside a character. Any thread. */
HADAL_API hadal_code hadal_detokenize(const hadal_model* model, const int32_t* ids, size_t id_count,
                                      uint32_t flags, char* text, size_t room, size_t* bytes,
                                      hadal_failure* failure);

/* ---- grammars ---- */

typedef enum hadal_shape {
  HADAL_SHAPE_TEXT = 0,
  HADAL_SHAPE_JSON_OBJECT = 1, /* any */
  HADAL_SHAPE_JSON_SCHEMA = 2,
  HADAL_SHAPE_REGEX = 3, /* that the whole answer matches */
  HADAL_SHAPE_EBNF = 4,
  HADAL_SHAPE_FORCE_32BIT = 0x7fffffff
} hadal_shape;

/* What an answer must look like, compiled for one model. */
typedef struct hadal_grammar hadal_grammar;

/* May take 2 s. Errors: HADAL_CODE_USAGE with the construct that is malformed, unknown or too
 * large. Any thread. */
HADAL_API hadal_code hadal_grammar_compile(const hadal_model* model, uint32_t shape,
                                           const char* text, hadal_grammar** out,
                                           hadal_failure* failure);
/* Answers that use it go on. One thread. */
HADAL_API void hadal_grammar_free(hadal_grammar* grammar);

/* ---- adapters ---- */

/* Reads a low-rank adapter, for answers that are begun from then on; between two steps of the
 * model, whose answers go on. The model was opened with adapters, or for more. Any thread, no
 * callback of this model's. */
HADAL_API hadal_code hadal_adapter_load(hadal_model* model, const char* name, const char* folder,
                                        hadal_failure* failure);
/* HADAL_CODE_BUSY while an answer uses it. Any thread, no callback of this model's. */
HADAL_API hadal_code hadal_adapter_unload(hadal_model* model, const char* name,
                                          hadal_failure* failure);

/* ---- what is asked ---- */

typedef struct hadal_tool_call {
  uint32_t size;
  uint32_t reserved;
  const char* id; /* may be "" */
  const char* name;
  const char* arguments; /* JSON text */
} hadal_tool_call;

typedef struct hadal_message {
  uint32_t size;
  uint32_t prefix;       /* 1: the last message, an assistant's: the answer goes on with it */
  const char* role;      /* "system", "user", "assistant", "tool" */
  const char* content;   /* NULL is "" in all that follows */
  const char* reasoning; /* of an assistant */
  const char* name;
  const char* tool_call_id;          /* of a tool: the call that it answers */
  const hadal_tool_call* tool_calls; /* of an assistant */
  size_t tool_call_count;
} hadal_message;

typedef enum hadal_tool_use {
  HADAL_TOOLS_AUTO = 0,
  HADAL_TOOLS_NONE = 1,
  HADAL_TOOLS_REQUIRED = 2, /* at least one call */
  HADAL_TOOLS_NAMED = 3,    /* of hadal_chat.tool_name */
  HADAL_TOOLS_FORCE_32BIT = 0x7fffffff
} hadal_tool_use;

/* A conversation with saved state, see below. */
typedef struct hadal_conversation hadal_conversation;

typedef struct hadal_chat {
  uint32_t size;
  uint32_t thinking;                      /* hadal_switch */
  const hadal_conversation* conversation; /* its messages, before the others; may be NULL */
  const hadal_message* messages;
  size_t message_count;
  const char* effort; /* "low", "high", "max" or a number, as the model knows it; NULL: its own */
  const char* tools_json; /* a list of tools in OpenAI's form; NULL: none */
  uint32_t tool_use;      /* hadal_tool_use */
  uint32_t strict_tools;  /* 1: calls keep to the tools' schemas */
  uint32_t one_call;      /* 1: the answer ends behind its first call */
  uint32_t reserved;
  const char* tool_name;
} hadal_chat;

/* Raw text or ids that the model goes on with: no chat format, no thought. */
typedef struct hadal_prompt {
  uint32_t size;
  uint32_t flags;   /* HADAL_TOKENIZE_… of the text; BOS also where the tokenizer adds it */
  const char* text; /* or NULL, and ids */
  const int32_t* ids;
  size_t id_count;
} hadal_prompt;

/* Which of the numbers below hold; the others are what is recommended for the model. */
#define HADAL_GIVEN_TEMPERATURE 1u
#define HADAL_GIVEN_TOP_P 2u
#define HADAL_GIVEN_TOP_K 4u
#define HADAL_GIVEN_MIN_P 8u
#define HADAL_GIVEN_REPETITION_PENALTY 16u
#define HADAL_GIVEN_PRESENCE_PENALTY 32u
#define HADAL_GIVEN_FREQUENCY_PENALTY 64u
#define HADAL_GIVEN_SEED 128u            /* else drawn by the machine */
#define HADAL_GIVEN_THINKING_BUDGET 256u /* else without a bound */
#define HADAL_GIVEN_ALL 511u

typedef struct hadal_bias {
  int32_t id;
  float bias; /* added to the token's logit */
} hadal_bias;

typedef struct hadal_answer_options {
  uint32_t size;
  uint32_t given;    /* HADAL_GIVEN_… */
  float temperature; /* 0: greedy */
  float top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  int32_t top_k;
  int32_t n; /* answers to the one prompt; 0: 1 */
  uint64_t seed;
  int64_t thinking_budget; /* most tokens of the thought, which is then closed */
  int64_t max_new_tokens;  /* 0: until the context is full */
  const char* const* stop; /* texts before which the answer ends */
  size_t stop_count;
  const int32_t* stop_ids;
  size_t stop_id_count;
  const hadal_bias* logit_bias;
  size_t logit_bias_count;
  const char* const* bad_words; /* texts that must not occur */
  size_t bad_word_count;
  const hadal_grammar* grammar; /* or, instead, a shape: */
  uint32_t shape;               /* hadal_shape; the chat format is told, where it knows how */
  uint32_t logprobs;            /* 1: with each token's log-probability */
  const char* shape_text;       /* the schema, regex or grammar */
  int32_t top_logprobs;         /* with so many of the most likely tokens, 0 … 20 */
  int32_t priority;             /* the smaller runs first */
  double deadline_seconds;      /* from now, waiting included; 0: none */
  const char* salt;             /* cached prefixes are shared among equal salts alone; NULL is "" */
  const char* adapter;          /* by name; NULL: the model alone */
  uint32_t prompt_lookup;       /* hadal_switch */
  uint32_t ignore_ending;       /* 1: goes on behind ending tokens */
} hadal_answer_options;

/* ---- answers ---- */

typedef enum hadal_end {
  HADAL_END_NONE = 0, /* goes on */
  HADAL_END_STOP = 1, /* the model ended, or a stop text came */
  HADAL_END_LENGTH = 2,
  HADAL_END_CONTEXT = 3, /* the context, or the cache, is full */
  HADAL_END_DEADLINE = 4,
  HADAL_END_INTERRUPTED = 5, /* cancelled, or the model was closed */
  HADAL_END_FAILED = 6,      /* hadal_answer_result tells why */
  HADAL_END_FORCE_32BIT = 0x7fffffff
} hadal_end;

/* What became certain of one of the n answers since the last event of it. */
typedef struct hadal_event {
  uint32_t size;
  int32_t choice;   /* 0 … n - 1; -1: nothing came in the time, or nothing will come any more */
  const char* text; /* "" where nothing came */
  const char* reasoning;             /* of its thought */
  const hadal_tool_call* tool_calls; /* completed ones */
  size_t tool_call_count;
  uint32_t end;  /* hadal_end: of this choice */
  uint32_t over; /* 1: all choices have ended, this is the last event */
} hadal_event;

/* Called by a thread of the library. Texts of the event die with the call. Another value than 0
 * cancels the answer. */
typedef int32_t (*hadal_event_fn)(void* context, const hadal_event* event);
/* Called by a thread of the library: hadal_answer_next has something. For event loops, which wake
 * themselves here (eventfd, a posted message) and poll there. */
typedef void (*hadal_ready_fn)(void* context);

/* At most one of the two functions. Neither: hadal_answer_next alone. */
typedef struct hadal_listener {
  uint32_t size;
  uint32_t reserved;
  hadal_event_fn on_event;
  hadal_ready_fn on_ready;
  void* context;
} hadal_listener;

/* One request with its n answers. */
typedef struct hadal_answer hadal_answer;

/* Begin an answer and return at once, but for the time that a grammar takes; `options` and
 * `listener` may be NULL. HADAL_CODE_BUSY: too much waits. Any thread. */
HADAL_API hadal_code hadal_chat_start(hadal_model* model, const hadal_chat* chat,
                                      const hadal_answer_options* options,
                                      const hadal_listener* listener, hadal_answer** out,
                                      hadal_failure* failure);
HADAL_API hadal_code hadal_generate_start(hadal_model* model, const hadal_prompt* prompt,
                                          const hadal_answer_options* options,
                                          const hadal_listener* listener, hadal_answer** out,
                                          hadal_failure* failure);

/* Waits for the next event, at most `seconds` (0: does not wait; < 0: as long as it takes). Nothing
 * in that time: HADAL_CODE_OK with choice -1 and over 0; nothing any more: with over 1. Text that
 * nobody took comes in one piece. The event's texts live until the next call of this function on
 * this answer. One thread at a time, not with an on_event; in a callback of this model's only
 * without waiting. */
HADAL_API hadal_code hadal_answer_next(hadal_answer* answer, double seconds, hadal_event* out,
                                       hadal_failure* failure);
/* Waits until all choices have ended and their last event was told, at most `seconds` (as above);
 * *over tells whether they have.
 * Any thread, no callback of this model's. */
HADAL_API hadal_code hadal_answer_wait(hadal_answer* answer, double seconds, uint32_t* over,
                                       hadal_failure* failure);
/* Ends it soon, within a step of the model; what was made so far stays. Any thread. */
HADAL_API void hadal_answer_cancel(hadal_answer* answer);

typedef struct hadal_usage {
  int64_t prompt_tokens, new_tokens;
  int64_t cached_tokens;  /* of the prompt: from the prefix cache */
  int64_t thought_tokens; /* of the new ones */
  int64_t drafted_tokens, accepted_tokens;
  double first_token_seconds, total_seconds;
} hadal_usage;

typedef struct hadal_logprob {
  int32_t id;
  float logprob;
} hadal_logprob;

typedef struct hadal_token {
  int32_t id;
  float logprob;
  const hadal_logprob* top; /* most likely first */
  size_t top_count;
  uint32_t in_thought;
  uint32_t reserved;
} hadal_token;

/* One whole answer. Texts and lists belong to the hadal_answer. */
typedef struct hadal_result {
  uint32_t size;
  uint32_t end; /* hadal_end, never NONE */
  const char* text;
  const char* reasoning;
  const hadal_tool_call* tool_calls;
  size_t tool_call_count;
  const int32_t* ids; /* as generated, the ending one included */
  size_t id_count;
  const hadal_token* tokens; /* with logprobs: without the ending one */
  size_t token_count;
  hadal_usage usage;
} hadal_result;

/* Of a choice that has ended; HADAL_CODE_BUSY: it has not. One that failed gives its error. Any
 * thread. */
HADAL_API hadal_code hadal_answer_result(const hadal_answer* answer, int32_t choice,
                                         hadal_result* out, hadal_failure* failure);
/* Cancels it if it goes on. When this returns, no callback of it runs or will come, but for the one
 * that calls this. One thread. */
HADAL_API void hadal_answer_free(hadal_answer* answer);

/* ---- logits ---- */

/* The logits behind the ids from `first` on: [id_count - first, vocabulary] floats, `room` of them
 * at least. Waits its turn among the answers. Any thread, no callback of this model's. */
HADAL_API hadal_code hadal_logits(hadal_model* model, const int32_t* ids, size_t id_count,
                                  size_t first, float* logits, size_t room, hadal_failure* failure);

/* ---- conversations ---- */

/* Messages that outlive the program, as JSON in OpenAI's form; no model is needed. All functions of
 * one conversation: one thread at a time. Beside its text, a model's kv_file keeps what was
 * computed of it. */
HADAL_API hadal_code hadal_conversation_create(hadal_conversation** out, hadal_failure* failure);
HADAL_API hadal_code hadal_conversation_load(const char* file, hadal_conversation** out,
                                             hadal_failure* failure);
/* The file appears whole or not at all. */
HADAL_API hadal_code hadal_conversation_save(const hadal_conversation* conversation,
                                             const char* file, hadal_failure* failure);
HADAL_API hadal_code hadal_conversation_add(hadal_conversation* conversation,
                                            const hadal_message* message, hadal_failure* failure);
/* Adds what an answer came to, as the assistant's message. */
HADAL_API hadal_code hadal_conversation_add_answer(hadal_conversation* conversation,
                                                   const hadal_answer* answer, int32_t choice,
                                                   hadal_failure* failure);
/* NULL: 0. */
HADAL_API size_t hadal_conversation_count(const hadal_conversation* conversation);
/* Texts live until the conversation is changed or freed. */
HADAL_API hadal_code hadal_conversation_get(const hadal_conversation* conversation, size_t index,
                                            hadal_message* out, hadal_failure* failure);
/* Takes back the last question and what was answered to it; HADAL_CODE_NOT_FOUND: there is none. */
HADAL_API hadal_code hadal_conversation_undo(hadal_conversation* conversation,
                                             hadal_failure* failure);
HADAL_API void hadal_conversation_free(hadal_conversation* conversation);

#ifdef __cplusplus
}
#endif
#endif
