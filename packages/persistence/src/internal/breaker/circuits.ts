/**
 * The circuits of a store as this process knows them: kept current by a watch, and by the responses to its own writes.
 *
 * A closed circuit is read from here, without a request. Until the first read of the store has succeeded, nothing is
 * known.
 */
import type { Entry } from "@effect-kv/core/Entry"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import { type KvError, make as makeError, Unavailable } from "@effect-kv/core/KvError"
import { watcherOf } from "@effect-kv/core/KvInternals"
import type * as Watch from "@effect-kv/core/Watch"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as segment from "../segment.ts"
import * as circuits from "./circuit.ts"

/** A circuit and its probe, as of some revision. */
export interface Known {
  readonly circuit: circuits.Circuit
  /** The mod revision of its key, `0n` if there is none. */
  readonly revision: bigint
  /** When this process learned of it, in milliseconds of the monotonic clock. */
  readonly seenAt: number
  /** Whether a call is the probe. */
  readonly isProbing: boolean
}

export interface Keys {
  /** The key of the circuit, as the application names it. */
  readonly key: string
  readonly circuit: string
  readonly probe: string
}

export const keysOf = (prefix: string, key: string): Keys => ({
  key,
  circuit: `${prefix}circuit/${segment.of(key)}`,
  probe: `${prefix}probe/${segment.of(key)}`
})

const json = Schema.fromJsonString(circuits.Circuit)
const decode = Schema.decodeUnknownOption(json)
export const encode = Schema.encodeSync(json)

/** A circuit whose value another program has written is closed, as one without a key. */
const circuitOf = (entry: Entry | undefined): circuits.Circuit =>
  entry === undefined ? circuits.initial : Option.getOrElse(decode(entry.lossyText), () => circuits.initial)

export const knownOf = (circuit: Entry | undefined, probe: Entry | undefined, now: number): Known => ({
  circuit: circuitOf(circuit),
  revision: circuit?.modRevision ?? 0n,
  seenAt: now,
  isProbing: probe !== undefined
})

interface Circuit {
  readonly circuit: circuits.Circuit
  readonly revision: bigint
  readonly seenAt: number
}

export class Circuits {
  readonly #circuits = new Map<string, Circuit>()
  readonly #probes = new Map<string, bigint>()
  /** The last revision that the watch has delivered. */
  #watched = 0n
  #isLoaded = false

  get(keys: Keys): Known | undefined {
    if (!this.#isLoaded) return undefined
    const known = this.#circuits.get(keys.circuit)
    return {
      circuit: known?.circuit ?? circuits.initial,
      revision: known?.revision ?? 0n,
      seenAt: known?.seenAt ?? 0,
      isProbing: this.#probes.has(keys.probe)
    }
  }

  /** Takes over what a response has shown as of its revision, unless the watch has delivered that already. */
  learn(keys: Keys, known: Known, revision: bigint): void {
    if (!this.#isLoaded || revision <= this.#watched) return
    if ((this.#circuits.get(keys.circuit)?.revision ?? 0n) > revision) return
    if (known.revision === 0n) this.#circuits.delete(keys.circuit)
    else this.#put(keys.circuit, known.circuit, known.revision, known.seenAt)
    if (known.isProbing) this.#probes.set(keys.probe, revision)
    else this.#probes.delete(keys.probe)
  }

  load(entries: ReadonlyArray<Entry>, revision: bigint, isCircuit: (key: string) => boolean, now: number): void {
    const seen = new Map(this.#circuits)
    this.#circuits.clear()
    this.#probes.clear()
    for (const entry of entries) {
      if (isCircuit(entry.key)) {
        this.#put(
          entry.key,
          circuitOf(entry),
          entry.modRevision,
          seen.get(entry.key)?.revision === entry.modRevision
            ? seen.get(entry.key)!.seenAt
            : now
        )
      } else this.#probes.set(entry.key, entry.createRevision)
    }
    this.#watched = revision
    this.#isLoaded = true
  }

  apply(revisions: ReadonlyArray<Watch.Revision>, isCircuit: (key: string) => boolean, now: number): void {
    for (const { events, revision } of revisions) {
      this.#watched = revision
      for (const event of events) {
        if (isCircuit(event.key)) this.#applyCircuit(event, now)
        else this.#applyProbe(event)
      }
    }
  }

  #applyCircuit(event: Watch.Event, now: number): void {
    const known = this.#circuits.get(event.key)
    if (known !== undefined && known.revision >= event.revision) return
    if (event._tag === "Delete") this.#circuits.delete(event.key)
    else this.#put(event.key, circuitOf(event.entry), event.revision, now)
  }

  #applyProbe(event: Watch.Event): void {
    const known = this.#probes.get(event.key)
    if (known !== undefined && known > event.revision) return
    if (event._tag === "Delete") this.#probes.delete(event.key)
    else this.#probes.set(event.key, event.revision)
  }

  #put(key: string, circuit: circuits.Circuit, revision: bigint, seenAt: number): void {
    const known = this.#circuits.get(key)
    this.#circuits.set(key, { circuit, revision, seenAt: known?.revision === revision ? known.seenAt : seenAt })
  }
}

/** The time of {@link Known.seenAt}: not that of the day, which can be set. */
export const monotonicMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1_000_000)

/** Keeps the circuits current until it is interrupted. While the store is away they stay as they are. */
export const follow = (kv: Kv.Kv, prefix: string, known: Circuits): Effect.Effect<never> => {
  const isCircuit = (key: string) => key.startsWith(`${prefix}circuit/`)
  const once: Effect.Effect<never, KvError> = Effect.scoped(Effect.gen(function*() {
    const followed = yield* kv.snapshotAndWatch(KeyRange.prefix(prefix))
    known.load(followed.entries, followed.revision, isCircuit, yield* monotonicMillis)
    return yield* Effect.forever(
      Effect.flatMap(
        watcherOf(followed).take,
        (revisions) => Effect.map(monotonicMillis, (now) => known.apply(revisions, isCircuit, now))
      )
    )
  }))
  return Effect.catch(
    once,
    (error) => Effect.delay(follow(kv, prefix, known), error.isRetryable ? "200 millis" : "2 seconds")
  )
}

/** Whether nothing is to be remembered of the circuit, so that it needs no key. */
export const isInitial = ({ generation, openings, ring, state, streak }: circuits.Circuit): boolean =>
  state === "Closed" && generation === 0 && streak === 0 && ring === "" && openings === 0

export const tooManyConflicts = (key: string) =>
  makeError(new Unavailable({ message: `other processes keep writing the circuit ${key}` }))
