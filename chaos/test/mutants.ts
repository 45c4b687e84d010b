/**
 * Mutants of a client's backend, and a gate to make their faults certain.
 */
import type { Entry } from "@effect-kv/core/Entry"
import type * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as Array from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"

/** An effect that announces that it has begun, and ends when it is released. */
export const gate = Effect.gen(function*() {
  const begun = yield* Deferred.make<void>()
  const released = yield* Deferred.make<void>()
  return {
    begun: Deferred.await(begun),
    release: Deferred.succeed(released, undefined),
    pass: Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(released))
  }
})

/** A backend that hides the contenders ahead of one that enters a queue. */
export const blind = (backend: KvBackend, queue: string): KvBackend => {
  const enters = (op: Op.Op): boolean =>
    op._tag === "Txn" && op.then.some((each) => each._tag === "Put" && each.key.startsWith(queue))
  return {
    ...backend,
    execute: (op) =>
      Effect.map(
        backend.execute(op),
        (response) =>
          !enters(op) || response._tag !== "Txn" || !response.succeeded ? response : {
            ...response,
            responses: response.responses.map((each) =>
              each._tag === "Range" ? { ...each, count: 0, more: false, entries: [] } : each
            )
          }
      )
  }
}

/** A backend whose watches do not deliver the revisions in which a value with such a part is put. */
export const withoutValue = (backend: KvBackend, value: string): KvBackend => ({
  ...backend,
  watch: (request) =>
    Effect.map(backend.watch(request), (watcher): Watch.Watcher => {
      const take: Watch.Watcher["take"] = Effect.flatMap(watcher.take, (revisions) => {
        const shown = revisions.filter(({ events }) =>
          !events.some((event) => event._tag === "Put" && event.entry.lossyText.includes(value))
        )
        return Array.isReadonlyArrayNonEmpty(shown) ? Effect.succeed(shown) : take
      })
      return { ...watcher, take }
    })
})

/** Whether an operation puts a key that begins with that. */
const putsTo = (op: Op.Op, key: string): boolean =>
  op._tag === "Put" ? op.key.startsWith(key) : op._tag === "Txn" && op.then.some((each) => putsTo(each, key))

/** A backend that changes the transactions that put such a key. */
const mutated = (backend: KvBackend, key: string, mutate: (op: Op.Txn) => Op.Op): KvBackend => ({
  ...backend,
  execute: (op) => backend.execute((op._tag === "Txn" && putsTo(op, key) ? mutate(op) : op) as typeof op)
})

/** Without their conditions. */
export const unconditional = (backend: KvBackend, key: string): KvBackend =>
  mutated(backend, key, (op) => ({ ...op, if: [] }))

/** Without what they delete. */
export const withoutDeletes = (backend: KvBackend, key: string): KvBackend =>
  mutated(backend, key, (op) => ({ ...op, then: op.then.filter(({ _tag }) => _tag !== "Delete") }))

/** With another key in place of this one. */
export const elsewhere = (backend: KvBackend, key: string): KvBackend =>
  mutated(backend, key, (op) => ({
    ...op,
    then: op.then.map((each) => each._tag === "Put" && putsTo(each, key) ? { ...each, key: "elsewhere" } : each)
  }))

/** A backend whose reads of such a prefix find nothing. */
export const withoutEntries = (backend: KvBackend, prefix: string): KvBackend => ({
  ...backend,
  execute: (op) =>
    Effect.map(
      backend.execute(op),
      (response) =>
        op._tag === "Range" && response._tag === "Range" && startOf(op.range).startsWith(prefix)
          ? { ...response, count: 0, more: false, entries: [] }
          : response
    )
})

/** A backend that finds three keys for each under such a prefix, also for a key that it puts there. */
export const tripled = (backend: KvBackend, prefix: string): KvBackend => {
  const triple = (entries: ReadonlyArray<Entry>) =>
    entries.flatMap((entry) =>
      entry.key.startsWith(prefix)
        ? ["", "x", "y"].map((suffix) => entry.withKey(entry.key + suffix))
        : [entry]
    )
  return {
    ...backend,
    execute: (op) =>
      Effect.map(backend.execute(op), (response) => {
        if (response._tag === "Range") return { ...response, entries: triple(response.entries) }
        if (response._tag !== "Txn" || !response.succeeded) return response
        const responses = response.responses.map((each) =>
          each._tag === "Range" ? { ...each, entries: triple(each.entries) } : each
        )
        return { ...response, responses }
      })
  }
}

/** A backend that reports for puts of such a key the revision before. */
export const oneBehind = (backend: KvBackend, key: string): KvBackend => ({
  ...backend,
  execute: (op) =>
    Effect.map(
      backend.execute(op),
      (response) => putsTo(op, key) ? { ...response, revision: response.revision - 1n } : response
    )
})

const startOf = (range: KeyRange.KeyRange): string =>
  range._tag === "Key" ? range.key : range._tag === "Prefix" ? range.from : range.start

/** A backend whose watches of such keys deliver nothing. */
export const withoutWatch = (backend: KvBackend, key: string): KvBackend => ({
  ...backend,
  watch: (request) =>
    Effect.map(
      backend.watch(request),
      (watcher): Watch.Watcher => startOf(request.range).startsWith(key) ? { ...watcher, take: Effect.never } : watcher
    )
})
