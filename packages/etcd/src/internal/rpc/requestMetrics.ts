/**
 * The metrics of requests to a cluster: failures and retries by endpoint, the state of endpoints, and tokens.
 */
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as serverAddress from "./serverAddress.ts"

export class RequestMetrics {
  readonly #meter: KvMetrics.Meter
  /** The reasons counted for each endpoint, so that its counters can be removed with it. */
  readonly #reasons = new Map<string, Set<string>>()

  constructor(meter: KvMetrics.Meter) {
    this.#meter = meter
  }

  failed(endpoint: string, reason: string): void {
    this.#count(KvMetrics.requestFailures, endpoint, reason)
  }

  retried(endpoint: string, reason: string): void {
    this.#count(KvMetrics.retries, endpoint, reason)
  }

  /** An endpoint is in use. Returns the function that removes it; `isGone` if it is not an endpoint of the cluster any more. */
  endpoint(url: string, isUp: () => boolean): (isGone: boolean) => void {
    const labels = serverAddress.labels(url)
    const remove = this.#meter.gauge(KvMetrics.endpointUp, labels, () => isUp() ? 1 : 0)
    return (isGone) => {
      remove()
      if (!isGone) return
      for (const reason of this.#reasons.get(url) ?? []) {
        this.#meter.removeCounter(KvMetrics.requestFailures, { ...labels, "error.type": reason })
        this.#meter.removeCounter(KvMetrics.retries, { ...labels, "error.type": reason })
      }
      this.#reasons.delete(url)
    }
  }

  /** Tokens will be requested. Their counters begin at 0: to Prometheus, a series that begins at 1 is no increase. */
  usesTokens(): void {
    for (const outcome of ["renewed", "failed"]) this.#meter.counter(KvMetrics.tokenRenewals, { outcome })
  }

  tokenRequested(outcome: "renewed" | "failed"): void {
    this.#meter.counter(KvMetrics.tokenRenewals, { outcome }).add()
  }

  #count(metric: KvMetrics.Definition, endpoint: string, reason: string): void {
    const reasons = this.#reasons.get(endpoint) ?? new Set()
    this.#reasons.set(endpoint, reasons.add(reason))
    this.#meter.counter(metric, { ...serverAddress.labels(endpoint), "error.type": reason }).add()
  }
}
