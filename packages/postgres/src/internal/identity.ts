/**
 * Whether the store is still the one that the client knows. A failover to a replica that lacks the last writes, or a
 * restored backup, takes the store's revision back: leases and tokens of the lost writes mean nothing any more.
 */
import * as KvError from "@effect-kv/core/KvError"

/** What was known of the store when a request was sent. */
export interface Sent {
  /** How many times the store had been replaced. */
  readonly generation: number
  /** The greatest known revision. */
  readonly revision: bigint
}

export class Identity {
  #sent: Sent = { generation: 0, revision: 0n }
  #message = ""
  readonly #listeners = new Set<(message: string) => void>()

  /** What is known now. Call it when a request is sent, and pass the result to `observe` with the response. */
  get sent(): Sent {
    return this.#sent
  }

  /** Calls the listener at each replacement. */
  onReplaced(listener: (message: string) => void): void {
    this.#listeners.add(listener)
  }

  /** Compares the revision of a response. Returns why the call fails, if the store was replaced. */
  observe(revision: bigint, sent: Sent, kind: "read" | "write"): KvError.KvError | undefined {
    const current = this.#sent
    if (sent.generation === current.generation && revision >= sent.revision) {
      if (revision > current.revision) this.#sent = { generation: current.generation, revision }
      return undefined
    }
    if (sent.generation === current.generation) {
      this.#message = `the store was replaced: it is at revision ${revision}, and was at revision ${sent.revision} ` +
        "before; a backup was restored, or a replica without the last writes took over"
      this.#sent = { generation: current.generation + 1, revision }
      for (const listener of this.#listeners) listener(this.#message)
    }
    return replaced(this.#message, kind === "write" ? "Unknown" : "NotApplied")
  }
}

export const replaced = (message: string, outcome: KvError.Outcome): KvError.KvError =>
  KvError.make(new KvError.StoreReplaced({ message, outcome }))
