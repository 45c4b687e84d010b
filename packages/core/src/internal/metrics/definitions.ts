/**
 * The definitions of all metrics. Names that end in `_total`, `_seconds` and `_bytes` follow Prometheus, so that they
 * are the same whether Prometheus reads the process or an OpenTelemetry collector. For the same reason, only ratios have
 * the unit `1`: a collector adds `_ratio` to the name of such a gauge.
 */
import type { Definition } from "./definition.ts"

const counter = (name: string, unit: string, labels: ReadonlyArray<string>, description: string): Definition => ({
  name,
  type: "Counter",
  unit,
  labels,
  description
})

const gauge = (
  name: string,
  unit: string,
  labels: ReadonlyArray<string>,
  description: string,
  of: Definition["of"] = "Sum"
): Definition => ({ name, type: "Gauge", unit, labels, description, of })

const histogram = (
  name: string,
  unit: string,
  labels: ReadonlyArray<string>,
  description: string,
  boundaries: ReadonlyArray<number>
): Definition => ({ name, type: "Histogram", unit, labels, description, boundaries })

// -----------------------------------------------------------------------------
// calls
// -----------------------------------------------------------------------------

/**
 * How long calls take, by operation and `error.type`, as OpenTelemetry's conventions for database clients define it.
 *
 * @since 0.1.0
 */
export const operationDuration: Definition = histogram(
  "db.client.operation.duration",
  "s",
  ["db.system.name", "db.namespace", "db.operation.name", "error.type"],
  "How long calls take, retries and the time in the queue included",
  [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]
)

/**
 * How many requests are in flight. A batch is one request.
 *
 * @since 0.1.0
 */
export const requestsInFlight: Definition = gauge(
  "effect_kv_requests_in_flight",
  "{request}",
  ["db.system.name", "db.namespace"],
  "How many requests are in flight"
)

/**
 * How many calls are queued for the next batch.
 *
 * @since 0.1.0
 */
export const callsQueued: Definition = gauge(
  "effect_kv_calls_queued",
  "{call}",
  ["db.system.name", "db.namespace"],
  "How many calls are queued for the next batch"
)

/**
 * How many calls the requests of the batching queues have carried, by their `kind`: read, put or delete.
 *
 * @since 0.1.0
 */
export const batchSize: Definition = histogram(
  "effect_kv_batch_size",
  "{call}",
  ["db.system.name", "db.namespace", "kind"],
  "How many calls the requests of the batching queues have carried",
  [1, 2, 4, 8, 16, 32, 64, 128]
)

// -----------------------------------------------------------------------------
// requests to a cluster
// -----------------------------------------------------------------------------

/**
 * How many requests have failed at an endpoint, by reason. Most of them are retried: see {@link retries}.
 *
 * @since 0.1.0
 */
export const requestFailures: Definition = counter(
  "effect_kv_request_failures_total",
  "{request}",
  ["server.address", "server.port", "error.type"],
  "How many requests have failed at an endpoint"
)

/**
 * How many requests were sent again after a failure at an endpoint, by the reason of the failure.
 *
 * @since 0.1.0
 */
export const retries: Definition = counter(
  "effect_kv_retries_total",
  "{request}",
  ["server.address", "server.port", "error.type"],
  "How many requests were sent again after a failure at an endpoint"
)

/**
 * Whether an endpoint is in use (1), or suspended because it has failed (0): then until it responds or can be connected
 * to. 0 if any client of the process has suspended it.
 *
 * @since 0.1.0
 */
export const endpointUp: Definition = gauge(
  "effect_kv_endpoint_up",
  "{endpoint}",
  ["server.address", "server.port"],
  "Whether an endpoint is in use (1) or suspended because it has failed (0)",
  "Smallest"
)

/**
 * How many tokens were requested, by `outcome`: renewed or failed.
 *
 * @since 0.1.0
 */
export const tokenRenewals: Definition = counter(
  "effect_kv_token_renewals_total",
  "{token}",
  ["outcome"],
  "How many authentication tokens were requested"
)

/**
 * How long statements waited for a connection of the database client's pool, also those that got none.
 *
 * @since 0.1.0
 */
export const poolWait: Definition = histogram(
  "effect_kv_pool_wait_seconds",
  "s",
  ["server.address", "server.port"],
  "How long statements waited for a connection of the pool",
  [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]
)

/**
 * How many writes lost their response, and had their outcome read from the store, by `outcome`: applied, not applied
 * (then the write was made again), or unknown.
 *
 * @since 0.1.0
 */
export const lostResponses: Definition = counter(
  "effect_kv_lost_responses_total",
  "{write}",
  ["outcome"],
  "How many writes lost their response, and had their outcome read from the store"
)

// -----------------------------------------------------------------------------
// watches
// -----------------------------------------------------------------------------

/**
 * How many watches are open, by `state`: live, waiting for a connection, or parked because the consumer is slow.
 *
 * @since 0.1.0
 */
export const watches: Definition = gauge(
  "effect_kv_watches",
  "{watch}",
  ["state"],
  "How many watches are open"
)

/**
 * How far the watch that is furthest behind lags, in revisions of the whole store. A watch of keys that do not change
 * advances about once a minute.
 *
 * @since 0.1.0
 */
export const watchLag: Definition = gauge(
  "effect_kv_watch_lag_revisions",
  "{revision}",
  [],
  "How many revisions the watch that is furthest behind lags",
  "Largest"
)

/**
 * The size of the events that watches have received and their consumers have not taken.
 *
 * @since 0.1.0
 */
export const watchBuffered: Definition = gauge(
  "effect_kv_watch_buffered_bytes",
  "By",
  [],
  "The size of the events that were received and not taken yet"
)

/**
 * How many streams were opened on which watches have resumed.
 *
 * @since 0.1.0
 */
export const watchReconnects: Definition = counter(
  "effect_kv_watch_reconnects_total",
  "{stream}",
  [],
  "How many streams were opened on which watches have resumed"
)

// -----------------------------------------------------------------------------
// sessions
// -----------------------------------------------------------------------------

/**
 * How many sessions are live.
 *
 * @since 0.1.0
 */
export const sessions: Definition = gauge("effect_kv_sessions", "{session}", [], "How many sessions are live")

/**
 * How many sessions were lost, by `cause`: `NotRenewed` (no renewal in time) or `LeaseEnded` (the store ended the lease).
 * Sessions that their owner closed are not counted.
 *
 * @since 0.1.0
 */
export const sessionsLost: Definition = counter(
  "effect_kv_sessions_lost_total",
  "{session}",
  ["cause"],
  "How many sessions were lost"
)

/**
 * The part of its time to live that the session closest to its loss has left, from 0 to 1; 1 without a session. It is at
 * least 0.56 if renewals succeed. The number to alert on.
 *
 * @since 0.1.0
 */
export const sessionMargin: Definition = gauge(
  "effect_kv_session_margin_ratio",
  "1",
  [],
  "The part of its time to live that the session closest to its loss has left",
  "Smallest"
)

/**
 * The time that sessions had left when they were renewed.
 *
 * @since 0.1.0
 */
export const renewalMargin: Definition = histogram(
  "effect_kv_session_renewal_margin_seconds",
  "s",
  [],
  "The time that sessions had left when they were renewed",
  [0.1, 0.5, 1, 2, 3, 4, 5, 7.5, 10, 20, 30, 60]
)

/**
 * How many attempts to renew a session have failed, by reason.
 *
 * @since 0.1.0
 */
export const renewalFailures: Definition = counter(
  "effect_kv_session_renewal_failures_total",
  "{renewal}",
  ["error.type"],
  "How many attempts to renew a session have failed"
)

// -----------------------------------------------------------------------------
// locks
// -----------------------------------------------------------------------------

/**
 * How many locks are held, by `kind`: lock, leadership, slot, run (of `RunOnce`), or semaphore for an acquisition of
 * permits. Read locks and write locks are locks.
 *
 * @since 0.1.0
 */
export const locksHeld: Definition = gauge("effect_kv_locks_held", "{lock}", ["kind"], "How many locks are held")

/**
 * How many acquisitions wait, by `kind`.
 *
 * @since 0.1.0
 */
export const locksWaiting: Definition = gauge(
  "effect_kv_locks_waiting",
  "{lock}",
  ["kind"],
  "How many acquisitions of locks wait"
)

/**
 * How long acquisitions took, by `kind` and `outcome`: acquired or not acquired.
 *
 * @since 0.1.0
 */
export const lockWait: Definition = histogram(
  "effect_kv_lock_wait_seconds",
  "s",
  ["kind", "outcome"],
  "How long acquisitions of locks took",
  [0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800]
)

/**
 * How long locks were held, by `kind`.
 *
 * @since 0.1.0
 */
export const lockHold: Definition = histogram(
  "effect_kv_lock_hold_seconds",
  "s",
  ["kind"],
  "How long locks were held",
  [0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800]
)

/**
 * How many locks were lost while they were held, by `kind` and `cause`: `NotRenewed`, `LeaseEnded`, `KeyDeleted`, or
 * `Rejected` if a fenced write or the release found the loss.
 *
 * @since 0.1.0
 */
export const locksLost: Definition = counter(
  "effect_kv_locks_lost_total",
  "{lock}",
  ["kind", "cause"],
  "How many locks were lost while they were held"
)

// -----------------------------------------------------------------------------
// temporary keys
// -----------------------------------------------------------------------------

/**
 * How many temporary keys exist.
 *
 * @since 0.1.0
 */
export const tempKeys: Definition = gauge("effect_kv_temp_keys", "{key}", [], "How many temporary keys exist")

/**
 * How many temporary keys were lost, by `cause`: `Lost` or `Taken`.
 *
 * @since 0.1.0
 */
export const tempKeysLost: Definition = counter(
  "effect_kv_temp_keys_lost_total",
  "{key}",
  ["cause"],
  "How many temporary keys were lost"
)

/**
 * How many temporary keys were made again after a loss.
 *
 * @since 0.1.0
 */
export const tempKeysRecreated: Definition = counter(
  "effect_kv_temp_keys_recreated_total",
  "{key}",
  [],
  "How many temporary keys were made again after a loss"
)

// -----------------------------------------------------------------------------
// stores in memory
// -----------------------------------------------------------------------------

/**
 * How many keys the stores in memory hold.
 *
 * @since 0.1.0
 */
export const memoryKeys: Definition = gauge(
  "effect_kv_memory_keys",
  "{key}",
  [],
  "How many keys the stores in memory hold"
)

/**
 * The highest revision of the stores in memory.
 *
 * @since 0.1.0
 */
export const memoryRevision: Definition = gauge(
  "effect_kv_memory_revision",
  "{revision}",
  [],
  "The highest revision of the stores in memory",
  "Largest"
)

/**
 * How many watches are open on the stores in memory.
 *
 * @since 0.1.0
 */
export const memoryWatches: Definition = gauge(
  "effect_kv_memory_watches",
  "{watch}",
  [],
  "How many watches are open on the stores in memory"
)

/**
 * How many leases the stores in memory have.
 *
 * @since 0.1.0
 */
export const memoryLeases: Definition = gauge(
  "effect_kv_memory_leases",
  "{lease}",
  [],
  "How many leases the stores in memory have"
)

/**
 * The memory that the history of the stores in memory takes, by an estimate.
 *
 * @since 0.1.0
 */
export const memoryHistory: Definition = gauge(
  "effect_kv_memory_history_bytes",
  "By",
  [],
  "The memory that the history of the stores in memory takes"
)

/**
 * All metrics of this library.
 *
 * @since 0.1.0
 */
export const all: ReadonlyArray<Definition> = [
  operationDuration,
  requestsInFlight,
  callsQueued,
  batchSize,
  requestFailures,
  retries,
  endpointUp,
  tokenRenewals,
  poolWait,
  lostResponses,
  watches,
  watchLag,
  watchBuffered,
  watchReconnects,
  sessions,
  sessionsLost,
  sessionMargin,
  renewalMargin,
  renewalFailures,
  locksHeld,
  locksWaiting,
  lockWait,
  lockHold,
  locksLost,
  tempKeys,
  tempKeysLost,
  tempKeysRecreated,
  memoryKeys,
  memoryRevision,
  memoryWatches,
  memoryLeases,
  memoryHistory
]
