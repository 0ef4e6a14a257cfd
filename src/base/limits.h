/* SPDX-License-Identifier: Apache-2.0 */
/* limits: every number that bounds something, with its reason. Reaching one is an error and a
 * counter (base/limit.h), never a crash. */
#ifndef JR_BASE_LIMITS_H
#define JR_BASE_LIMITS_H

#define JR_NAME_MAX              128 /* namespace, component, replica id, worker label */
#define JR_URL_MAX               512
#define JR_MODEL_MAX             256
#define JR_BUSY_MODELS_MAX       256  /* models of one pool with busy thresholds of their own */
#define JR_ALIAS_MORE            2048 /* what a body grows by at most when its model is another */
#define JR_POOLS_MAX             64
#define JR_OUTLIERS_MAX          256   /* workers of one pool whose failures are counted */
#define JR_WORKERS_MAX           16384 /* (worker, rank) pairs of one pool */
#define JR_STATE_RANKS_MAX       8192  /* of them, rows the stream may make: a rule of the log */
#define JR_RANKS_MAX             256   /* dp ranks of one worker */
#define JR_RANKS_INLINE          16    /* of them, what one lease lists */
#define JR_ENGINE_FILE_MAX       (64 << 10) /* one file of --engines-dir */
#define JR_BRIDGES_MAX           1024 /* engines of one bridge process, or of one mocker with --bridge */
#define JR_REPLICAS_MAX          64        /* replicas of one pool */
#define JR_REQUESTS_MAX          (1 << 20) /* live bookings of one pool, all replicas */
#define JR_OUTSIDE_WORDS_MAX     65536     /* told of peers' outside requests, and not yet heard */
#define JR_SESSIONS_MAX          65536 /* sessions of one pool that are bound to a worker: Dynamo's */
#define JR_SESSION_NAME_MAX      256   /* bytes of a session's name: Dynamo's */
#define JR_SESSION_TTL_SECS_MAX  31536000 /* a year: Dynamo's */
#define JR_QUEUE_MAX             16384 /* requests that wait in one pool: as many as connections */
#define JR_POLICY_CLASSES_MAX    64    /* of one model's queue */
#define JR_POLICY_BUCKETS_MAX    16
#define JR_POLICY_MODELS_MAX     64 /* of a policy file */
#define JR_POLICY_NAME_MAX       64
#define JR_POLICY_FILE_MAX       (1 << 20) /* bytes */
#define JR_QUEUE_MODELS_MAX      256       /* models of one pool whose requests wait */
#define JR_PROMPT_TOKENS_MAX     (4 << 20) /* tokens of one prompt */
#define JR_PROMPT_BLOCKS_MAX     (1 << 18)
#define JR_BLOCK_SIZE_MAX        4096
#define JR_BLOCK_SIZE_DEFAULT    64 /* tokens, where nothing says it and nothing depends on it */

#define JR_BATCH_BYTES_MAX       (1 << 20) /* one message of the event stream (NATS default payload) */
#define JR_BATCH_EVENTS_MAX      65536
#define JR_BATCH_TARGET_BYTES    (64 << 10) /* a bridge closes a batch: some 4,000 blocks, 1 ms */
#define JR_EVENT_BLOCKS_MAX      65536
#define JR_SYNC_BYTES_MAX        (256 << 10) /* one part of a base */
#define JR_SYNC_DELTAS_MAX       65536
#define JR_SNAPSHOT_CHUNK        (128 << 10) /* object store chunk, ADR-20's default */
#define JR_NATS_PAYLOAD_MIN      (256 << 10) /* a server takes that in one message, at least */
#define JR_SNAPSHOT_GRACE_MS     600000      /* chunks no meta names may be of a running upload */
#define JR_SNAPSHOT_RUN          4096        /* entries in one frame of a snapshot */

#define JR_SKIPS_MAX             256   /* messages of one stream that are passed by order */
#define JR_DIGEST_POINTS         32768 /* last sequences whose digests are kept: 768 KiB a pool */

#define JR_HTTP_HEADER_BYTES_MAX (64 << 10)
#define JR_HTTP_HEADERS_MAX      128
#define JR_HTTP_TARGET_MAX       4096 /* path and query of a request that goes on to a worker */
#define JR_HTTP_FRAMING_MAX      (128 << 10) /* of a chunked answer, between two pieces of its body */
#define JR_HTTP_THREADS_MAX      64
#define JR_FRONT_TICKETS_MAX                                                                       \
    65536 /* requests of one HTTP loop beside the main one that are under way */
#define JR_HTTP_CONNS_MAX        16384
#define JR_HTTP_WRITE_HIGH       (256 << 10) /* a writer is told to wait above this */

#define JR_TLS_IN_MAX            (128 << 10) /* ciphertext that a session holds unread: two reads */
#define JR_TLS_OUT_KEEP          (4 << 10)   /* of its buffer, between two writes */
#define JR_TLS_PIECE             (128 << 10) /* of a request's body, encrypted at a time */

#define JR_MSGPACK_DEPTH_MAX     32 /* engines' batches nest 6 deep */
#define JR_OPENAI_DEPTH_MAX      64 /* nesting of a request body */
#define JR_OPENAI_ENDS_MAX       32 /* messages of a chat, from the last, whose places are told */
#define JR_HOLDS_MAX             256 /* workers being asked to keep a prompt, at a time, of an HTTP loop */
#define JR_HOLDS_BYTES_MAX       (64 << 20) /* and what they are told; the most of a prompt is 44 MiB */
#define JR_TOKENIZER_ASKS_MAX    1024       /* prompts being tokenized by workers at a time */
#define JR_TOKENIZER_BYTES_MAX   (256 << 20) /* that they hold, with the answers they will get */
#define JR_TOKEN_MODELS_MAX      64 /* whose workers are watched: texts' ids hold while they live */
#define JR_TOKEN_TEMPLATES_MAX   64 /* that render the past of a chat otherwise, remembered */
#define JR_TOKENIZER_HOSTS_MAX   16384 /* tokenizing workers that are remembered: those of a pool */

#define JR_MOCKER_BODY_MAX       (64 << 20)          /* request body of a mock engine */
#define JR_MOCKER_REPLAY_STEPS   10000               /* event batches an engine can replay */
#define JR_MOCKER_REPLAY_BYTES   (UINT64_C(1) << 30) /* and all engines of a mocker together */
#define JR_MOCKER_SEQS_MAX       1024 /* outputs of one of its requests: prompts times n */

#define JR_TRACE_BYTES_MAX       (1u << 30) /* a trace file */
#define JR_TRACE_ROWS_MAX        (1u << 24)
#define JR_TRACE_HASHES_MAX      (1u << 28)
#define JR_TRACE_MS_MAX          1e12
#define JR_REPLAY_IN_FLIGHT_MAX  4096      /* further requests wait for the end of one */
#define JR_REPLAY_EVENT_MAX      (1 << 20) /* one event of a streamed answer */
#define JR_REPLAY_REASONS_MAX    16        /* different errors told apart */
#define JR_REPLAY_WORKERS_MAX    1024      /* workers told apart */

#define JR_LOOP_SLICE_US         1000 /* a sliced job gives way after this */

#define JR_CONFIG_VALUE_MAX      4096 /* bytes of an option's value */
#define JR_CONFIG_LIST_MAX       4096 /* elements of a list option */

#define JR_ACCESS_LOG_BUFFER     (4 << 20) /* lines that wait to be written; more are dropped */
#define JR_ACCESS_CANDIDATES_MAX 256       /* of a slow request's decision that are told */

#define JR_SPAN_ATTRS_MAX        24         /* attributes of one span */
#define JR_SPAN_TEXT_MAX         256        /* bytes of a text in it; what goes beyond is cut */
#define JR_SPAN_BYTES_MAX        (16 << 10) /* a span as it is sent */
#define JR_SPAN_QUEUE_MAX        65536      /* that wait for the collector, of one HTTP loop */
#define JR_TRACE_STATE_MAX       512 /* of a tracestate that spans repeat: the least W3C asks for */
#define JR_OTLP_BODY_MAX         (4 << 20)  /* one request to the collector */
#define JR_OTLP_REPLY_MAX        (64 << 10) /* and its answer */
#define JR_OTLP_TRIES_MAX        5          /* times that a batch is sent */
#define JR_OTLP_WAIT_MAX_MS      30000      /* between two of them, whatever Retry-After says */
#define JR_OTLP_FLUSH_MS         1000       /* for what is left when the process ends */

#define JR_CHILD_LINE_MAX        1024 /* bytes of a line of a child process */

#endif
