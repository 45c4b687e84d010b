/**
 * The metrics of statements: failures and retries, the wait for a connection of the pool, and lost responses.
 */
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import type { SqlError } from "effect/sql/SqlError"
import type { ServerAddress } from "./serverAddress.ts"
import * as serverAddress from "./serverAddress.ts"
import * as sqlErrors from "./sqlErrors.ts"

/** What the store has shown about a write whose response was lost. */
export type LostResponse = "applied" | "not applied" | "unknown"

export class RequestMetrics {
  readonly #meter: KvMetrics.Meter
  readonly #labels: KvMetrics.Labels
  readonly #poolWait: KvMetrics.Histogram

  constructor(meter: KvMetrics.Meter, server: ServerAddress) {
    this.#meter = meter
    this.#labels = serverAddress.labels(server)
    this.#poolWait = meter.histogram(KvMetrics.poolWait, this.#labels)
    // To Prometheus, a series that begins at 1 is no increase.
    for (const outcome of ["applied", "not applied", "unknown"]) meter.counter(KvMetrics.lostResponses, { outcome })
  }

  /** A statement has waited so many milliseconds for a connection, also if it got none. */
  waited(millis: number): void {
    this.#poolWait.record(millis / 1000)
  }

  failed(error: SqlError): void {
    this.#count(KvMetrics.requestFailures, sqlErrors.reasonOf(error)._tag)
  }

  /** No response arrived before the deadline. */
  late(): void {
    this.#count(KvMetrics.requestFailures, "DeadlineExceeded")
  }

  /** A statement was sent again after the failure. */
  retried(error: SqlError): void {
    this.#count(KvMetrics.retries, sqlErrors.reasonOf(error)._tag)
  }

  /** The outcome of a write whose response was lost was read. */
  resolved(outcome: LostResponse): void {
    this.#meter.counter(KvMetrics.lostResponses, { outcome }).add()
  }

  /** Watches have resumed on a new connection for notifications. */
  reconnected(): void {
    this.#meter.counter(KvMetrics.watchReconnects).add()
  }

  #count(metric: KvMetrics.Definition, reason: string): void {
    this.#meter.counter(metric, { ...this.#labels, "error.type": reason }).add()
  }
}
