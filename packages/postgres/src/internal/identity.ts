/**
 * Whether the store is still the one that the client knows, and has all that the client knows of. A failover to a replica
 * that lacks the last writes, or a restored backup, takes the store back: leases and tokens of the lost writes mean nothing
 * any more.
 *
 * Responses have the revision of the store and its epoch (see `schema/epochs.ts`). In one epoch the revision never goes
 * back. A response of another epoch is compared by the store itself, which knows after which revision each epoch began.
 */
import * as KvError from "@effect-kv/core/KvError"

/** A moment in the history of a store. */
export interface Position {
  /** The epoch. */
  readonly epoch: bigint
  readonly revision: bigint
}

/** What was known of the store when a request was sent. */
export interface Sent {
  /** How many times the store had been replaced. */
  readonly generation: number
  /** The greatest known revision. */
  readonly revision: bigint
  /** Its epoch; `undefined` before the first response. */
  readonly epoch: bigint | undefined
}

/** What the store reports of two positions. */
export interface Lineage {
  readonly now: Position
  /** Whether its history holds what the client knew when it asked. */
  readonly holdsKnown: boolean
  /** Whether its history holds what the response showed. */
  readonly holdsSeen: boolean
}

export type Kind = "read" | "write"

export class Identity {
  #sent: Sent = { generation: 0, revision: 0n, epoch: undefined }
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

  /** Why a call fails that is still in flight, if the store was replaced since this generation. */
  replacedSince(generation: number, outcome: KvError.Outcome): KvError.KvError | undefined {
    return generation === this.#sent.generation ? undefined : replaced(this.#message, outcome)
  }

  /**
   * Compares the position of a response. Returns why the call fails if the store was replaced, and `Unknown` if only the
   * store can tell: then pass its lineage to `settle`.
   */
  observe(seen: Position, sent: Sent, kind: Kind): KvError.KvError | "Unknown" | undefined {
    const current = this.#sent
    if (sent.generation !== current.generation) return this.#failed(kind)
    if (current.epoch !== undefined && seen.epoch !== current.epoch) return "Unknown"
    if (seen.revision < sent.revision) {
      this.#replace(seen)
      return this.#failed(kind)
    }
    if (seen.revision > current.revision || current.epoch === undefined) this.#know(seen)
    return undefined
  }

  /**
   * Why the call fails, whose response had another epoch; `undefined` if it does not. `asked` is what the store compared.
   * `Unknown` if the client has seen more since it asked: then ask again.
   */
  settle(
    { holdsKnown, holdsSeen, now }: Lineage,
    call: { readonly seen: Position; readonly sent: Sent; readonly asked: Sent; readonly kind: Kind }
  ): KvError.KvError | "Unknown" | undefined {
    const current = this.#sent
    if (call.sent.generation !== current.generation) return this.#failed(call.kind)
    if (!holdsKnown) {
      this.#replace(now)
      return this.#failed(call.kind)
    }
    if (now.epoch === current.epoch) {
      if (now.revision > current.revision) this.#know(now)
    } else if (current.epoch === call.asked.epoch) {
      if (current.revision > call.asked.revision) return "Unknown"
      this.#know(now)
    }
    if (!holdsSeen) {
      return replaced(`${anotherServer}, which no longer has what the response showed`, outcomeOf(call.kind))
    }
    const { seen, sent } = call
    return call.kind === "read" && seen.epoch !== now.epoch &&
        (seen.epoch !== sent.epoch || seen.revision < sent.revision)
      ? KvError.make(new KvError.Unavailable({ message: anotherServer }))
      : undefined
  }

  #know({ epoch, revision }: Position): void {
    this.#sent = { generation: this.#sent.generation, epoch, revision }
  }

  #replace(now: Position): void {
    const { generation, revision } = this.#sent
    this.#message =
      `the store was replaced: it is at revision ${now.revision} and does not have all writes up to revision ` +
      `${revision}, which this client has seen; a backup was restored, or a replica without the last writes took over`
    this.#sent = { generation: generation + 1, ...now }
    for (const listener of this.#listeners) listener(this.#message)
  }

  #failed(kind: Kind): KvError.KvError {
    return replaced(this.#message, outcomeOf(kind))
  }
}

const anotherServer = "the response is that of another server than the primary"

const outcomeOf = (kind: Kind): KvError.Outcome => kind === "write" ? "Unknown" : "NotApplied"

export const replaced = (message: string, outcome: KvError.Outcome): KvError.KvError =>
  KvError.make(new KvError.StoreReplaced({ message, outcome }))
