/**
 * Mutants of clients whose semaphores and read-write locks break their contract in one way each.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import type { Mutant } from "./mutants.ts"
import { onEntry, onExecute, unguarded, withValue } from "./mutating.ts"

const isPut = (op: Op.Op, folder: string): op is Op.Put => op._tag === "Put" && op.key.includes(folder)

/** Changes every range in a response, those in transactions included. */
const onRanges = (f: (range: Op.RangeResponse) => Op.RangeResponse) => {
  const change = (response: Op.Response): Op.Response =>
    response._tag === "Txn"
      ? { ...response, responses: response.responses.map(change) } as Op.TxnResponse
      : response._tag === "Range"
      ? f(response)
      : response
  return onExecute((op, execute) => Effect.map(execute(op), change))
}

/** Delivers only some events. */
const onlyEvents = (isDelivered: (event: Watch.Event) => boolean) => (backend: KvBackend): KvBackend => ({
  ...backend,
  watch: (request) =>
    Effect.map(backend.watch(request), (watcher) => {
      const take: Watch.Watcher["take"] = Effect.flatMap(watcher.take, (revisions) => {
        const delivered = revisions.flatMap(({ events, revision }) => {
          const kept = events.filter(isDelivered)
          return Array.isReadonlyArrayNonEmpty(kept) ? [{ revision, events: kept }] : []
        })
        return Array.isReadonlyArrayNonEmpty(delivered) ? Effect.succeed(delivered) : take
      })
      return { ...watcher, take }
    })
})

const isLarge = ({ key, lossyText }: { readonly key: string; readonly lossyText: string }): boolean =>
  key.includes("/permits/") && !key.endsWith("/limit") && lossyText.startsWith("3")

const withoutConditions = (op: Op.Txn, isDropped: (compare: Op.Txn["if"][number]) => boolean): Op.Op =>
  Op.txn({ if: op.if.filter((compare) => !isDropped(compare)), then: op.then, else: op.else })

const semaphores: ReadonlyArray<Omit<Mutant, "differs">> = [
  {
    title: "acquires permits without adding up those ahead",
    apply: onEntry("/permits/", (range) => ({ ...range, entries: [], count: 0, more: false })),
    noticedBy: [
      "never more than N permits are held, whatever their weights, and each holder's token is larger",
      "one release admits as many waiters as have room"
    ]
  },
  {
    title: "lets a small request for permits overtake a large one",
    apply: (backend) =>
      onlyEvents((event) => event._tag === "Delete" || !isLarge(event.entry))(
        onRanges((range) => ({ ...range, entries: range.entries.filter((entry) => !isLarge(entry)) }))(backend)
      ),
    noticedBy: ["permits are acquired in order of arrival, and a small request does not overtake a large one"]
  },
  {
    title: "takes every number of permits for its own",
    apply: onExecute((op, execute) => {
      const limit = op._tag === "Txn" ? op.then.find((inner) => isPut(inner, "/permits/limit")) : undefined
      return Effect.map(
        execute(op),
        (response): Op.Response =>
          limit?._tag === "Put" && response._tag === "Txn" && !response.succeeded
            ? {
              ...response,
              responses: response.responses.map((inner) =>
                inner._tag === "Range"
                  ? { ...inner, entries: inner.entries.map((entry) => withValue(entry, String(limit.value))) }
                  : inner
              )
            } as Op.TxnResponse
            : response
      )
    }),
    noticedBy: ["another number of permits is a PermitsMismatch that names both numbers"]
  },
  {
    title: "does not notice a resize",
    apply: onlyEvents(({ key }) => !key.endsWith("/permits/limit")),
    noticedBy: ["a resize to fewer permits does not affect the holders, and admits no waiter until there is room"]
  },
  {
    title: "waits in the queue when it only tries to acquire permits",
    apply: onExecute((op, execute) =>
      Effect.tap(execute(op), (response) => {
        const put = op._tag === "Txn" && op.if.some(({ target }) => target === "CreatedBefore")
          ? op.then.find((inner) => isPut(inner, "/permits/"))
          : undefined
        return put !== undefined && response._tag === "Txn" && !response.succeeded ? execute(put) : Effect.void
      })
    ),
    noticedBy: ["permits that are not available now leave no key and delay no other client"]
  },
  {
    title: "acquires permits at once even if others have just entered",
    apply: onExecute((op, execute) =>
      execute(
        op._tag === "Txn" && op.then.some((inner) => isPut(inner, "/permits/"))
          ? withoutConditions(op, ({ target }) => target === "CreatedBefore")
          : op
      )
    ),
    noticedBy: ["attempts to acquire at once all succeed while there is room"]
  },
  {
    title: "does not fence the writes under permits",
    apply: unguarded((op) => isPut(op, "written")),
    noticedBy: ["the writes of an effect under permits are fenced"]
  },
  {
    title: "does not notice that its own key is gone",
    apply: onlyEvents((event) => event._tag === "Put" || !event.key.includes("/permits/")),
    noticedBy: ["a waiter whose key or lease is gone fails with LockLost and is not admitted"]
  }
]

const rwLocks: ReadonlyArray<Omit<Mutant, "differs">> = [
  {
    title: "reads beside a writer",
    apply: onEntry("/read/", (range) => ({ ...range, entries: [], count: 0, more: false })),
    noticedBy: [
      "readers share the lock, and a writer excludes readers and writers",
      "a writer enters after the readers ahead of it, however many come after"
    ]
  },
  {
    title: "writes beside readers",
    apply: onEntry("/write/", (range) => ({
      ...range,
      entries: range.entries.filter(({ key }) => !key.includes("/read/")),
      more: false
    })),
    noticedBy: ["readers share the lock, and a writer excludes readers and writers"]
  },
  {
    title: "waits for every key that begins with the name of the folder, as Go does",
    apply: onExecute((op, execute) => {
      const wider = (inner: Op.Op): Op.Op =>
        inner._tag === "Range" && inner.range._tag === "Prefix" && /\/(read|write)\/$/.test(inner.range.prefix)
          ? { ...inner, range: KeyRange.prefix(inner.range.prefix.slice(0, -1)) }
          : inner
      return execute(op._tag === "Txn" ? Op.txn({ if: op.if, then: op.then.map(wider), else: op.else }) : op)
    }),
    noticedBy: ["read-write locks, locks and other names that extend each other do not interfere"]
  },
  {
    title: "does not fence the writes of readers and writers",
    apply: unguarded((op) => isPut(op, "written")),
    noticedBy: ["the writes of readers and writers are fenced"]
  }
]

export const recipes: ReadonlyArray<Mutant> = [...semaphores, ...rwLocks].map((mutant) => ({
  ...mutant,
  title: `has a client that ${mutant.title}`,
  differs: false
}))
