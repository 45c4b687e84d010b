/**
 * Mutants: backends that break the contract in one way each. The suite must find them all.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Entry from "@effect-kv/core/Entry"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as Array from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { every, onExecute } from "./mutating.ts"
import { recipes } from "./recipeMutants.ts"

/** A backend with one bug. */
export interface Mutant {
  /** Completes the sentence "a store that ...". */
  readonly title: string
  readonly apply: (backend: KvBackend) => KvBackend
  /** Titles of cases that must fail. */
  readonly noticedBy: ReadonlyArray<string>
  /** Whether random programs must find it too. */
  readonly differs: boolean
}

/** Changes every operation, those in transactions included. */
const onOp = (f: (op: Exclude<Op.Op, Op.Txn>) => Op.Op) => {
  const change = (op: Op.Op): Op.Op =>
    op._tag === "Txn" ? Op.txn({ if: op.if, then: op.then.map(change), else: op.else.map(change) }) : f(op)
  return onExecute((op, execute) => execute(change(op)))
}

/** Changes every response, those in transactions included. */
const onResponse = (f: (response: Exclude<Op.Response, Op.TxnResponse>) => Op.Response) => {
  const change = (response: Op.Response): Op.Response =>
    response._tag === "Txn" ? { ...response, responses: response.responses.map(change) } : f(response)
  return onExecute((op, execute) => Effect.map(execute(op), change))
}

const onEntries = (f: (entry: Entry.Entry) => Entry.Entry) =>
  onResponse((response) => response._tag === "Range" ? { ...response, entries: response.entries.map(f) } : response)

const onRange = (f: (range: KeyRange.KeyRange) => KeyRange.KeyRange) =>
  onOp((op) => op._tag === "Put" ? op : { ...op, range: f(op.range) })

const onBatches = (
  f: (batches: ReadonlyArray<Watch.Revision>) => ReadonlyArray<Watch.Revision>,
  onRequest: (request: Watch.WatchRequest) => Watch.WatchRequest = (request) => request
) =>
(backend: KvBackend): KvBackend => ({
  ...backend,
  watch: (request) =>
    Effect.map(backend.watch(onRequest(request)), (watcher) => {
      const take: Watch.Watcher["take"] = Effect.flatMap(watcher.take, (batches) => {
        const changed = f(batches)
        return Array.isReadonlyArrayNonEmpty(changed) ? Effect.succeed(changed) : take
      })
      return { ...watcher, take }
    })
})

const onEvents = (f: (event: Watch.Event) => Watch.Event) =>
  onBatches((batches) => batches.map((batch) => ({ ...batch, events: Array.map(batch.events, f) })))

const entryWith = (entry: Entry.Entry, fields: Partial<Entry.Fields>): Entry.Entry =>
  Entry.make({
    key: entry.key,
    value: entry.value,
    createRevision: entry.createRevision,
    modRevision: entry.modRevision,
    version: entry.version,
    lease: entry.lease,
    ...fields
  })

const putWith = (put: Op.Put, fields: Partial<Op.Put>): Op.Put =>
  Op.put(fields.key ?? put.key, fields.value ?? put.value, { ...put, ...fields })

/** Backends with a bug in renewals of leases. The case must fail and not hang. */
const renewals: ReadonlyArray<Mutant> = Object.entries({
  "crashes when it renews a lease": Effect.die(new Error("a bug")),
  "hangs uninterruptibly when it renews a lease": Effect.uninterruptible(Effect.never),
  "is interrupted when it renews a lease": Effect.interrupt
}).map(([title, renewal]) => ({
  title,
  apply: (backend) => ({ ...backend, leaseKeepAlive: () => renewal }),
  noticedBy: ["a session renews its lease at every third of the granted time, and outlives it many times"],
  differs: false
}))

const keys: ReadonlyArray<Mutant> = [
  {
    title: "replaces lone surrogates",
    apply: onOp((op) => op._tag === "Put" ? putWith(op, { key: op.key.toWellFormed() }) : op),
    noticedBy: ["a lone surrogate in a key is rejected by every operation, never replaced"],
    differs: true
  },
  {
    title: "accepts an empty key",
    apply: onOp((op) => op._tag === "Put" && op.key === "" ? putWith(op, { key: "\u0000" }) : op),
    noticedBy: ["an empty key is rejected by every operation"],
    differs: true
  },
  {
    title: "normalizes keys",
    apply: onOp((op) => op._tag === "Put" ? putWith(op, { key: op.key.normalize("NFC") }) : op),
    noticedBy: ["a key is returned exactly as it was given, and differs from all similar keys"],
    differs: false
  },
  {
    title: "orders keys by UTF-16 code units",
    apply: onResponse((response) =>
      response._tag === "Range"
        ? { ...response, entries: response.entries.toSorted((a, b) => a.key < b.key ? -1 : 1) }
        : response
    ),
    noticedBy: ["keys are ordered by their UTF-8 bytes, not by UTF-16 code units"],
    differs: true
  },
  {
    title: "drops the byte order mark of a value",
    apply: onEntries((entry) =>
      entry.lossyText.startsWith("\ufeff") ? entryWith(entry, { value: entry.lossyText.slice(1) }) : entry
    ),
    noticedBy: ["a string value is returned exactly as it was written"],
    differs: true
  },
  {
    title: "reads bytes as text",
    apply: onEntries((entry) => entryWith(entry, { value: entry.lossyText })),
    noticedBy: [
      "a value of all 256 bytes is returned exactly as it was written",
      "reading a value that is not UTF-8 as text fails"
    ],
    differs: true
  },
  {
    title: "treats an empty value as missing",
    apply: onResponse((response) =>
      response._tag === "Range" && response.count > 0
        ? { ...response, entries: response.entries.filter((entry) => entry.size > 0) }
        : response
    ),
    noticedBy: ["a key with an empty value exists"],
    differs: true
  }
]

const reads: ReadonlyArray<Mutant> = [
  {
    title: "ignores the limit",
    apply: onOp((op) => op._tag === "Range" ? Op.range(op.range, { ...op, limit: undefined }) : op),
    noticedBy: [
      "a limited read returns the full count and whether there are more entries",
      "a limit that is not a positive integer is rejected"
    ],
    differs: true
  },
  {
    title: "counts the returned entries instead of all",
    apply: onResponse((response) =>
      response._tag === "Range" && response.entries.length > 0
        ? { ...response, count: response.entries.length }
        : response
    ),
    noticedBy: ["a limited read returns the full count and whether there are more entries"],
    differs: true
  },
  {
    title: "never reports more entries",
    apply: onResponse((response) => response._tag === "Range" ? { ...response, more: false } : response),
    noticedBy: [
      "a limited read returns the full count and whether there are more entries",
      "a streamed range has the same entries as a read, whatever the page size"
    ],
    differs: true
  },
  {
    title: "treats a closed range as half-open",
    apply: onRange((range) =>
      range._tag === "HalfOpen" && range.end.length > 1 && range.end.endsWith("\u0000")
        ? KeyRange.halfOpen(range.start, range.end.slice(0, -1))
        : range
    ),
    noticedBy: ["a closed range includes its start and its end, and no key after it"],
    differs: true
  },
  {
    title: "continues a prefix range behind the prefix",
    apply: onRange((range) => range._tag === "Prefix" ? KeyRange.from(range.from) : range),
    noticedBy: [
      "a prefix range contains the keys that begin with the prefix, and no others",
      "no read in a namespace reaches outside of it, whatever its bounds",
      "no delete in a namespace reaches outside of it, whatever its bounds"
    ],
    differs: true
  },
  {
    title: "ends a prefix range by the next UTF-16 code unit",
    apply: onRange((range) => {
      if (range._tag !== "Prefix" || range.prefix === "") return range
      const last = range.prefix.charCodeAt(range.prefix.length - 1)
      const end = range.prefix.slice(0, -1) + String.fromCharCode(last + 1)
      return end.isWellFormed() ? KeyRange.halfOpen(range.from, end) : range
    }),
    noticedBy: ["a prefix range contains the keys that begin with the prefix, and no others"],
    differs: true
  },
  {
    title: "reads the present at a past revision",
    apply: onOp((op) => op._tag === "Range" ? Op.range(op.range, { ...op, revision: undefined }) : op),
    noticedBy: [
      "a key can be read at a past revision",
      "a read at a future revision fails with FutureRevision",
      "all pages of a stream are read at one revision, even if every key is overwritten meanwhile",
      "all reads show one revision, even if every key is overwritten in between"
    ],
    differs: true
  },
  {
    title: "ignores the filters on revisions",
    apply: onOp((op) =>
      op._tag === "Range" ? Op.range(op.range, { ...op, minModRevision: undefined, maxCreateRevision: undefined }) : op
    ),
    noticedBy: ["filters on mod and create revision select entries but do not change the count"],
    differs: true
  },
  {
    title: "sorts ascending if descending is requested",
    apply: onOp((op) =>
      op._tag === "Range" && op.order !== undefined ? Op.range(op.range, { ...op, order: { by: op.order.by } }) : op
    ),
    noticedBy: ["entries can be ordered by key, create revision, mod revision or version, in either direction"],
    differs: true
  },
  {
    title: "returns values to a keysOnly read",
    apply: onOp((op) => op._tag === "Range" ? Op.range(op.range, { ...op, keysOnly: false }) : op),
    noticedBy: ["a keysOnly read returns entries with revisions and versions, without values and leases"],
    differs: true
  }
]

const writes: ReadonlyArray<Mutant> = [
  {
    title: "returns the wrong revision for a put",
    apply: onResponse((response) =>
      response._tag === "Put" ? { ...response, revision: response.revision - 1n } : response
    ),
    noticedBy: ["a write raises the revision by one, and its response has that revision"],
    differs: true
  },
  {
    title: "ignores a put of the same value",
    apply: onExecute((op, execute) =>
      op._tag !== "Put" ? execute(op) : Effect.flatMap(execute(Op.get(op.key)), (response) => {
        const entry = response._tag === "Range" ? response.entries[0] : undefined
        return entry !== undefined && entry.lossyText === op.value
          ? Effect.succeed({ _tag: "Put", revision: response.revision, previous: Option.none() })
          : execute(op)
      })
    ),
    noticedBy: ["putting the same value again is a write with a revision of its own"],
    differs: true
  },
  {
    title: "loses one write in thirty and confirms it",
    apply: (backend) => {
      const now = every(30)
      return onExecute((op, execute) =>
        op._tag === "Put" && now()
          ? Effect.map(execute(Op.get("?")), ({ revision }) => ({ _tag: "Put", revision, previous: Option.none() }))
          : execute(op)
      )(backend)
    },
    noticedBy: ["concurrent writes of several fibers are all applied, each exactly once"],
    differs: true
  },
  {
    title: "applies one write in thirty twice",
    apply: (backend) => {
      const now = every(30)
      return onExecute((op, execute) =>
        op._tag === "Put" && now() ? Effect.andThen(execute(op), execute(op)) : execute(op)
      )(backend)
    },
    noticedBy: ["concurrent writes of several fibers are all applied, each exactly once"],
    differs: true
  },
  {
    title: "reports a deleted key that was missing",
    apply: onResponse((response) =>
      response._tag === "Delete" ? { ...response, deleted: response.deleted || 1 } : response
    ),
    noticedBy: ["a delete that matches no key succeeds with deleted 0 and does not raise the revision"],
    differs: true
  },
  {
    title: "does not return deleted entries",
    apply: onResponse((response) => response._tag === "Delete" ? { ...response, previous: [] } : response),
    noticedBy: ["deleting a range raises the revision by one and can return the deleted entries in key order"],
    differs: true
  },
  {
    title: "returns the previous response to a read",
    apply: (backend) => {
      const seen = new Map<string, Op.Response>()
      return onExecute((op, execute) => {
        if (op._tag !== "Range" || op.range._tag !== "Key" || op.countOnly === true) return execute(op)
        const before = seen.get(op.range.key)
        return before !== undefined
          ? Effect.succeed(before)
          : Effect.tap(
            execute(op),
            (response) => Effect.sync(() => seen.set(op.range._tag === "Key" ? op.range.key : "", response))
          )
      })(backend)
    },
    noticedBy: ["a client reads at once what another client has written"],
    differs: true
  }
]

const txns: ReadonlyArray<Mutant> = [
  {
    title: "runs the else branch instead of then",
    apply: onExecute((op, execute) =>
      op._tag === "Txn" ? execute(Op.txn({ if: op.if, then: op.else, else: op.then })) : execute(op)
    ),
    noticedBy: ["a transaction runs its then branch or its else branch, never both"],
    differs: true
  },
  {
    title: "checks only one of the conditions",
    apply: onExecute((op, execute) =>
      op._tag === "Txn" ? execute(Op.txn({ if: op.if.slice(0, 1), then: op.then, else: op.else })) : execute(op)
    ),
    noticedBy: [
      "the then branch runs if all conditions hold; without conditions it always runs",
      "a range that was read is guarded: a key created, changed or deleted in it runs the transaction again"
    ],
    differs: true
  },
  {
    title: "treats the value of a missing key as different from every value",
    apply: onExecute((op, execute) =>
      op._tag !== "Txn" ? execute(op) : execute(Op.txn({
        if: op.if.filter((compare) => compare.target !== "Value" || compare.operator !== "!="),
        then: op.then,
        else: op.else
      }))
    ),
    noticedBy: ["a condition on the value of a missing key is false, whatever the operator"],
    differs: true
  },
  {
    title: "ignores conditions on ranges",
    apply: onExecute((op, execute) =>
      op._tag !== "Txn" ? execute(op) : execute(Op.txn({
        if: op.if.filter((compare) => compare.target !== "CreatedBefore"),
        then: op.then,
        else: op.else
      }))
    ),
    noticedBy: [
      "a condition can require a range to be empty, or to have no key created at or after a revision",
      "tryAcquire returns at once: with the lock, or with none and nothing left behind",
      "a range that was read is guarded: a key created, changed or deleted in it runs the transaction again"
    ],
    differs: true
  },
  {
    title: "checks only the first key of a range",
    apply: onExecute((op, execute) =>
      op._tag !== "Txn" ? execute(op) : execute(Op.txn({
        if: op.if.map((compare) =>
          compare.target === "CreatedBefore" && compare.range._tag === "Prefix"
            ? Compare.createdBefore(KeyRange.key(`${compare.range.from}a`), compare.revision)
            : compare
        ),
        then: op.then,
        else: op.else
      }))
    ),
    noticedBy: [
      "a condition can require a range to be empty, or to have no key created at or after a revision",
      "a range that was read is guarded: a key created, changed or deleted in it runs the transaction again"
    ],
    differs: true
  },
  {
    title: "treats a missing key as an empty value",
    apply: onExecute((op, execute) =>
      op._tag !== "Txn" ? execute(op) : execute(Op.txn({
        if: op.if.map((compare) =>
          compare.target === "Value" && compare.value.length === 0 ? Compare.missing(compare.key) : compare
        ),
        then: op.then,
        else: op.else
      }))
    ),
    noticedBy: ["testAndSet returns true exactly if it wrote"],
    differs: true
  },
  {
    title: "executes the operations of a transaction one by one",
    apply: onExecute((op, execute) => {
      if (op._tag !== "Txn" || op.if.length > 0 || op.then.length === 0) return execute(op)
      return Effect.map(
        Effect.forEach(op.then, (inner) => Effect.tap(execute(inner), () => Effect.yieldNow)),
        (responses): Op.Response => ({ _tag: "Txn", revision: responses.at(-1)!.revision, succeeded: true, responses })
      )
    }),
    noticedBy: [
      "all writes of a transaction have one revision",
      "no reader ever sees half of a transaction",
      "a transaction that fails changes nothing"
    ],
    differs: true
  },
  {
    title: "checks the conditions first and writes later",
    apply: onExecute((op, execute) =>
      op._tag !== "Txn" || op.if.length === 0 ?
        execute(op) :
        Effect.flatMap(execute(Op.txn({ if: op.if })), (response) =>
          Effect.andThen(
            Effect.yieldNow,
            Effect.map(
              execute(Op.txn({ then: response._tag === "Txn" && response.succeeded ? op.then : op.else })),
              (inner): Op.Response =>
                response._tag === "Txn" && inner._tag === "Txn"
                  ? { ...inner, succeeded: response.succeeded } as Op.TxnResponse
                  : inner
            )
          ))
    ),
    noticedBy: [
      "of many concurrent transactions on one condition exactly one succeeds",
      "of many testAndSet calls with the same expected value exactly one writes",
      "concurrent modify calls of several fibers and clients lose no update",
      "64 concurrent updates of one key by four clients lose none",
      "a dense sequence has every number once, whichever client takes it",
      "concurrent transfers of several fibers and clients keep the total",
      "two transactions that each read what the other writes are not both applied on old reads"
    ],
    differs: false
  },
  {
    title: "accepts two puts of a key in a transaction",
    apply: onExecute((op, execute) => {
      if (op._tag !== "Txn") return execute(op)
      const last = new Map(op.then.flatMap((inner, i) => inner._tag === "Put" ? [[inner.key, i] as const] : []))
      const then = op.then.map((inner, i) =>
        inner._tag === "Put" && last.get(inner.key) !== i ? Op.get(inner.key) : inner
      )
      return execute(Op.txn({ if: op.if, then, else: op.else }))
    }),
    noticedBy: ["a transaction that puts a key twice is rejected, nested transactions included"],
    differs: true
  }
]

const leases: ReadonlyArray<Mutant> = [
  {
    title: "drops the lease of a put",
    apply: onOp((op) => op._tag === "Put" ? Op.put(op.key, op.value, { previous: op.previous }) : op),
    noticedBy: [
      "an entry has the lease it was put with",
      "a put can keep the lease of its key",
      "an update keeps the lease of its key, and can decline",
      "a put in a transaction can attach a lease, or keep the one of its key",
      "every operation with an unknown lease fails with LeaseNotFound"
    ],
    differs: true
  },
  {
    title: "keeps the lease of a key that is put without one",
    apply: onExecute((op, execute) =>
      op._tag !== "Put" || op.lease !== undefined ?
        execute(op) :
        Effect.flatMap(execute(Op.get(op.key)), (response) => {
          const lease = response._tag === "Range" ? response.entries[0]?.lease : undefined
          return execute(putWith(op, { lease: lease === undefined ? undefined : Option.getOrUndefined(lease) }))
        })
    ),
    noticedBy: ["a put without a lease detaches the key from its lease"],
    differs: true
  },
  {
    title: "grants less than requested",
    apply: (backend) => ({
      ...backend,
      leaseGrant: (options) =>
        Effect.map(backend.leaseGrant(options), (lease) => ({ ...lease, ttl: Duration.seconds(1) }))
    }),
    noticedBy: ["a lease is granted for at least the requested time, in whole seconds"],
    differs: true
  },
  {
    title: "renews a revoked lease",
    apply: (backend) => ({
      ...backend,
      leaseKeepAlive: (id) =>
        Effect.catch(backend.leaseKeepAlive(id), () => Effect.succeed({ id, ttl: Duration.seconds(60) }))
    }),
    noticedBy: ["every operation with an unknown lease fails with LeaseNotFound"],
    differs: true
  },
  {
    title: "ignores renewals",
    apply: (backend) => ({
      ...backend,
      leaseKeepAlive: (id) => Effect.map(backend.leaseTimeToLive(id), ({ grantedTtl }) => ({ id, ttl: grantedTtl }))
    }),
    noticedBy: ["a lease that is renewed does not expire, and keeps its keys"],
    differs: false
  },
  {
    title: "never expires a lease",
    apply: (backend) => ({
      ...backend,
      leaseGrant: (options) =>
        Effect.map(
          backend.leaseGrant({ ...options, ttl: Duration.hours(1) }),
          (lease) => ({ ...lease, ttl: Duration.fromInputUnsafe(options.ttl) })
        )
    }),
    noticedBy: ["a lease that is not renewed expires, and its keys are deleted at one revision"],
    differs: true
  },
  {
    title: "does not report the keys of a lease",
    apply: (backend) => ({
      ...backend,
      leaseTimeToLive: (id, options) =>
        Effect.map(backend.leaseTimeToLive(id, options), (status) => ({ ...status, keys: [] }))
    }),
    noticedBy: ["leaseTimeToLive returns the granted and the remaining time, and on request the keys in order"],
    differs: true
  }
]

const errors: ReadonlyArray<Mutant> = [
  {
    title: "reports every failure as Unavailable",
    apply: onExecute((op, execute) =>
      Effect.catch(execute(op), () => KvError.fail(new KvError.Unavailable({ message: "something went wrong" })))
    ),
    noticedBy: [
      "a request that is too large fails with RequestTooLarge, and the client stays usable",
      "an empty key is rejected by every operation"
    ],
    differs: true
  },
  {
    title: "shows a value in an error",
    apply: onExecute((op, execute) =>
      Effect.catch(execute(op), (error) =>
        op._tag === "Put"
          ? KvError.fail(new KvError.InvalidRequest({ message: `cannot put ${op.key} = ${String(op.value)}` }))
          : Effect.fail(error))
    ),
    noticedBy: ["no error shows a value"],
    differs: true
  },
  {
    title: "writes even if it rejects the call",
    apply: onExecute((op, execute) =>
      op._tag === "Put"
        ? Effect.tapError(execute(op), () => Effect.ignore(execute(Op.put("rejected", "v"))))
        : execute(op)
    ),
    noticedBy: ["a lone surrogate in a value is rejected, never replaced"],
    differs: true
  }
]

const watches: ReadonlyArray<Mutant> = [
  {
    title: "loses one event in seven",
    apply: (backend) => {
      const now = every(7)
      return onBatches((batches) => batches.filter(() => !now()))(backend)
    },
    noticedBy: ["a watch from the first revision replays the whole history"],
    differs: false
  },
  {
    title: "delivers one event in ten twice",
    apply: (backend) => {
      const now = every(10)
      return onBatches((batches) => batches.flatMap((batch) => now() ? [batch, batch] : [batch]))(backend)
    },
    noticedBy: ["a watch from the first revision replays the whole history"],
    differs: true
  },
  {
    title: "delivers events in the wrong order",
    apply: onBatches((batches) => batches.toReversed()),
    noticedBy: ["a watch from the first revision replays the whole history"],
    differs: false
  },
  {
    title: "splits a revision",
    apply: onBatches((batches) =>
      batches.flatMap((batch) => batch.events.map((event) => ({ ...batch, events: [event] as const })))
    ),
    noticedBy: ["the events of a revision are delivered together, in the order of the writes"],
    differs: true
  },
  {
    title: "ignores the start revision of a watch",
    apply: onBatches((batches) => batches, (request) => ({ ...request, startRevision: undefined })),
    noticedBy: ["a watch from a past revision replays the events since then"],
    differs: false
  },
  {
    title: "reports every put as a creation",
    apply: onEvents((event) => event._tag === "Put" ? { ...event, isCreate: true } : event),
    noticedBy: ["a confirmed watch delivers everything after its revision, in order"],
    differs: true
  },
  {
    title: "does not report previous entries",
    apply: onEvents((event) => ({ ...event, previous: Option.none() })),
    noticedBy: ["an event has the previous entry on request, if it is not compacted"],
    differs: true
  },
  {
    title: "ignores the filter on event types",
    apply: onBatches((batches) => batches, (request) => ({ ...request, only: undefined })),
    noticedBy: ["a watch can deliver only puts or only deletes"],
    differs: true
  },
  {
    title: "watches more than the requested range",
    apply: onBatches((batches) => batches, (request) => ({
      ...request,
      range: request.range._tag === "Key" ? KeyRange.prefix(request.range.key) : request.range
    })),
    noticedBy: ["a watch of one key sees only that key"],
    differs: true
  }
]

/** All mutants. */
/** A store that loses some operations of transactions that have others. */
const losing = (isLost: (op: Op.Op) => boolean) =>
  onExecute((op, execute) =>
    op._tag === "Txn" && op.then.length > 1
      ? execute(Op.txn({ if: op.if, then: op.then.filter((each) => !isLost(each)), else: op.else }))
      : execute(op)
  )

const runs: ReadonlyArray<Mutant> = [
  {
    title: "loses the end of a run",
    apply: losing((op) => op._tag === "Put" && typeof op.value === "string" && op.value.includes("\"Done\"")),
    noticedBy: ["a run is one transaction that starts it and one that ends it, and leaves its record"],
    differs: false
  },
  {
    title: "keeps the runner's key after its run",
    apply: losing((op) => op._tag === "Delete"),
    noticedBy: ["a run is one transaction that starts it and one that ends it, and leaves its record"],
    differs: false
  },
  {
    title: "forgets that the rounds of a barrier have changed",
    apply: onExecute((op, execute) =>
      op._tag === "Txn" && op.then.some((each) => each._tag === "Put" && each.key.includes("/p:"))
        ? execute(Op.txn({ if: op.if.filter(({ target }) => target !== "ModRevision"), then: op.then, else: op.else }))
        : execute(op)
    ),
    noticedBy: ["a reset latch is closed and begins again without arrivals, and its waiters keep waiting"],
    differs: false
  }
]

export const mutants: ReadonlyArray<Mutant> = [
  ...keys,
  ...reads,
  ...writes,
  ...txns,
  ...leases,
  ...renewals,
  ...errors,
  ...watches,
  ...recipes,
  ...runs
]
