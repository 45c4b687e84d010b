/**
 * Backends that break the contract, each in one way, to see that the suite notices.
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

/** Something that a store does wrong. */
export interface Mutant {
  /** A store that ... */
  readonly title: string
  readonly apply: (backend: KvBackend) => KvBackend
  /** Titles of cases that must notice. */
  readonly noticedBy: ReadonlyArray<string>
  /** Whether random programs notice it too. */
  readonly differs: boolean
}

type AnyResponse = Op.Response<Op.Op>
type Execute = (op: Op.Op) => Effect.Effect<AnyResponse, KvError.KvError>

const onExecute =
  (f: (op: Op.Op, execute: Execute) => Effect.Effect<AnyResponse, KvError.KvError>) =>
  (backend: KvBackend): KvBackend => ({
    ...backend,
    execute: ((op: Op.Op) => f(op, backend.execute)) as KvBackend["execute"]
  })

/** Changes every operation, those in transactions too. */
const onOp = (f: (op: Exclude<Op.Op, Op.Txn>) => Op.Op) => {
  const change = (op: Op.Op): Op.Op =>
    op._tag === "Txn" ? Op.txn({ if: op.if, then: op.then.map(change), else: op.else.map(change) }) : f(op)
  return onExecute((op, execute) => execute(change(op)))
}

/** Changes every response, those of operations in transactions too. */
const onResponse = (f: (response: Exclude<AnyResponse, Op.TxnResponse>) => AnyResponse) => {
  const change = (response: AnyResponse): AnyResponse =>
    response._tag === "Txn" ? { ...response, responses: response.responses.map(change) } : f(response)
  return onExecute((op, execute) => Effect.map(execute(op), change))
}

const onEntries = (f: (entry: Entry.Entry) => Entry.Entry) =>
  onResponse((response) => response._tag === "Range" ? { ...response, entries: response.entries.map(f) } : response)

const onRange = (f: (range: KeyRange.KeyRange) => KeyRange.KeyRange) =>
  onOp((op) => op._tag === "Put" ? op : { ...op, range: f(op.range) })

const onBatches = (
  f: (batches: ReadonlyArray<Watch.Batch>) => ReadonlyArray<Watch.Batch>,
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

/** One time in `n`. */
const every = (n: number) => {
  let calls = 0
  return () => ++calls % n === 0
}

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

/** Stores whose renewals of leases have a bug. The cases must notice, and not hang. */
const renewals: ReadonlyArray<Mutant> = Object.entries({
  "crashes when it renews a lease": Effect.die(new Error("a bug")),
  "hangs uninterruptibly when it renews a lease": Effect.uninterruptible(Effect.never),
  "is interrupted when it renews a lease": Effect.interrupt
}).map(([title, renewal]) => ({
  title,
  apply: (backend) => ({ ...backend, leaseKeepAlive: () => renewal }),
  noticedBy: ["it is renewed at each third of what was granted, and outlives it many times"],
  differs: false
}))

const keys: ReadonlyArray<Mutant> = [
  {
    title: "replaces lone surrogates",
    apply: onOp((op) => op._tag === "Put" ? putWith(op, { key: op.key.toWellFormed() }) : op),
    noticedBy: ["a lone surrogate is rejected everywhere, never replaced"],
    differs: true
  },
  {
    title: "takes an empty key for a key",
    apply: onOp((op) => op._tag === "Put" && op.key === "" ? putWith(op, { key: "\u0000" }) : op),
    noticedBy: ["an empty key is rejected, everywhere"],
    differs: true
  },
  {
    title: "normalizes keys",
    apply: onOp((op) => op._tag === "Put" ? putWith(op, { key: op.key.normalize("NFC") }) : op),
    noticedBy: ["a key comes back as it was given, and is no other key"],
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
    noticedBy: ["a string goes in and comes out as it was"],
    differs: true
  },
  {
    title: "reads bytes as text",
    apply: onEntries((entry) => entryWith(entry, { value: entry.lossyText })),
    noticedBy: [
      "all 256 bytes go in and come out as they were",
      "a value that is not UTF-8 is not read as text by mistake"
    ],
    differs: true
  },
  {
    title: "takes an empty value for none",
    apply: onResponse((response) =>
      response._tag === "Range" && response.count > 0
        ? { ...response, entries: response.entries.filter((entry) => entry.size > 0) }
        : response
    ),
    noticedBy: ["an empty value is a value"],
    differs: true
  }
]

const reads: ReadonlyArray<Mutant> = [
  {
    title: "ignores the limit",
    apply: onOp((op) => op._tag === "Range" ? Op.range(op.range, { ...op, limit: undefined }) : op),
    noticedBy: ["a limited answer says more, and the full count", "a limit that is not a positive integer is rejected"],
    differs: true
  },
  {
    title: "counts what it answers instead of all",
    apply: onResponse((response) =>
      response._tag === "Range" && response.entries.length > 0
        ? { ...response, count: response.entries.length }
        : response
    ),
    noticedBy: ["a limited answer says more, and the full count"],
    differs: true
  },
  {
    title: "never says that there is more",
    apply: onResponse((response) => response._tag === "Range" ? { ...response, more: false } : response),
    noticedBy: [
      "a limited answer says more, and the full count",
      "a streamed range is the range, whatever the size of the pages"
    ],
    differs: true
  },
  {
    title: "takes a closed range for a half-open one",
    apply: onRange((range) =>
      range._tag === "HalfOpen" && range.end.length > 1 && range.end.endsWith("\u0000")
        ? KeyRange.halfOpen(range.start, range.end.slice(0, -1))
        : range
    ),
    noticedBy: ["a closed range holds its start and its end, and nothing behind it"],
    differs: true
  },
  {
    title: "lets a prefix range go on behind the prefix",
    apply: onRange((range) => range._tag === "Prefix" ? KeyRange.from(range.from) : range),
    noticedBy: [
      "a prefix range holds the keys that begin with the prefix, and no other",
      "no range reaches outside, whatever its bounds",
      "no delete reaches outside, whatever its bounds"
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
    noticedBy: ["a prefix range holds the keys that begin with the prefix, and no other"],
    differs: true
  },
  {
    title: "reads the present when asked about the past",
    apply: onOp((op) => op._tag === "Range" ? Op.range(op.range, { ...op, revision: undefined }) : op),
    noticedBy: [
      "a key is read as it was at a past revision",
      "a future revision is FutureRevision",
      "all pages are of one revision, though everything is overwritten meanwhile"
    ],
    differs: true
  },
  {
    title: "ignores the filters on revisions",
    apply: onOp((op) =>
      op._tag === "Range" ? Op.range(op.range, { ...op, minModRevision: undefined, maxCreateRevision: undefined }) : op
    ),
    noticedBy: ["entries are filtered by mod and create revision; the count is of all"],
    differs: true
  },
  {
    title: "orders downwards as upwards",
    apply: onOp((op) =>
      op._tag === "Range" && op.order !== undefined ? Op.range(op.range, { ...op, order: { by: op.order.by } }) : op
    ),
    noticedBy: ["entries are ordered by key, create revision, mod revision or version, either way"],
    differs: true
  },
  {
    title: "sends values though keys alone are wanted",
    apply: onOp((op) => op._tag === "Range" ? Op.range(op.range, { ...op, keysOnly: false }) : op),
    noticedBy: ["a keysOnly read returns entries with revisions and versions, without values and leases"],
    differs: true
  }
]

const writes: ReadonlyArray<Mutant> = [
  {
    title: "answers a put with the wrong revision",
    apply: onResponse((response) =>
      response._tag === "Put" ? { ...response, revision: response.revision - 1n } : response
    ),
    noticedBy: ["a write is one revision, which its answer carries"],
    differs: true
  },
  {
    title: "does not write the same value again",
    apply: onExecute((op, execute) =>
      op._tag !== "Put" ? execute(op) : Effect.flatMap(execute(Op.get(op.key)), (response) => {
        const entry = response._tag === "Range" ? response.entries[0] : undefined
        return entry !== undefined && entry.lossyText === op.value
          ? Effect.succeed({ _tag: "Put", revision: response.revision, previous: Option.none() })
          : execute(op)
      })
    ),
    noticedBy: ["putting the same value again is a write"],
    differs: true
  },
  {
    title: "loses a write in thirty, and confirms it",
    apply: (backend) => {
      const now = every(30)
      return onExecute((op, execute) =>
        op._tag === "Put" && now()
          ? Effect.map(execute(Op.get("?")), ({ revision }) => ({ _tag: "Put", revision, previous: Option.none() }))
          : execute(op)
      )(backend)
    },
    noticedBy: ["writes of independent fibers are all applied, each once"],
    differs: true
  },
  {
    title: "applies a write in thirty twice",
    apply: (backend) => {
      const now = every(30)
      return onExecute((op, execute) =>
        op._tag === "Put" && now() ? Effect.andThen(execute(op), execute(op)) : execute(op)
      )(backend)
    },
    noticedBy: ["writes of independent fibers are all applied, each once"],
    differs: true
  },
  {
    title: "says that it deleted what was not there",
    apply: onResponse((response) =>
      response._tag === "Delete" ? { ...response, deleted: response.deleted || 1 } : response
    ),
    noticedBy: ["deleting nothing is success with deleted 0, and no revision"],
    differs: true
  },
  {
    title: "does not tell what it deleted",
    apply: onResponse((response) => response._tag === "Delete" ? { ...response, previous: [] } : response),
    noticedBy: ["deleting a range is one revision, and answers with what was there in order of the keys"],
    differs: true
  },
  {
    title: "answers a read with what it read before",
    apply: (backend) => {
      const seen = new Map<string, AnyResponse>()
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
    noticedBy: ["what one client wrote another reads at once"],
    differs: true
  }
]

const txns: ReadonlyArray<Mutant> = [
  {
    title: "runs else for then",
    apply: onExecute((op, execute) =>
      op._tag === "Txn" ? execute(Op.txn({ if: op.if, then: op.else, else: op.then })) : execute(op)
    ),
    noticedBy: ["then or else runs, never both"],
    differs: true
  },
  {
    title: "asks for one condition of all",
    apply: onExecute((op, execute) =>
      op._tag === "Txn" ? execute(Op.txn({ if: op.if.slice(0, 1), then: op.then, else: op.else })) : execute(op)
    ),
    noticedBy: ["all conditions must hold for then to run; none hold trivially"],
    differs: true
  },
  {
    title: "finds the value of a missing key different from any",
    apply: onExecute((op, execute) =>
      op._tag !== "Txn" ? execute(op) : execute(Op.txn({
        if: op.if.filter((compare) => compare.target !== "Value" || compare.operator !== "!="),
        then: op.then,
        else: op.else
      }))
    ),
    noticedBy: ["the value of a missing key compares as false, whatever the operator"],
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
      "a range can be required to hold no key, or none that was created at a revision or later",
      "tryAcquire answers at once: with the lock, or with none and nothing left"
    ],
    differs: true
  },
  {
    title: "looks at the first key of a range only",
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
    noticedBy: ["a range can be required to hold no key, or none that was created at a revision or later"],
    differs: true
  },
  {
    title: "takes a missing key for an empty value",
    apply: onExecute((op, execute) =>
      op._tag !== "Txn" ? execute(op) : execute(Op.txn({
        if: op.if.map((compare) =>
          compare.target === "Value" && compare.value.length === 0 ? Compare.missing(compare.key) : compare
        ),
        then: op.then,
        else: op.else
      }))
    ),
    noticedBy: ["testAndSet is true exactly when it wrote"],
    differs: true
  },
  {
    title: "runs the operations of a txn one by one",
    apply: onExecute((op, execute) => {
      if (op._tag !== "Txn" || op.if.length > 0 || op.then.length === 0) return execute(op)
      return Effect.map(
        Effect.forEach(op.then, (inner) => Effect.tap(execute(inner), () => Effect.yieldNow)),
        (responses): AnyResponse => ({ _tag: "Txn", revision: responses.at(-1)!.revision, succeeded: true, responses })
      )
    }),
    noticedBy: [
      "all writes of a txn are one revision",
      "nobody ever sees half of a txn",
      "a txn that fails changes nothing"
    ],
    differs: true
  },
  {
    title: "looks at the conditions first and writes later",
    apply: onExecute((op, execute) =>
      op._tag !== "Txn" || op.if.length === 0 ?
        execute(op) :
        Effect.flatMap(execute(Op.txn({ if: op.if })), (response) =>
          Effect.andThen(
            Effect.yieldNow,
            Effect.map(
              execute(Op.txn({ then: response._tag === "Txn" && response.succeeded ? op.then : op.else })),
              (inner): AnyResponse =>
                response._tag === "Txn" && inner._tag === "Txn"
                  ? { ...inner, succeeded: response.succeeded } as Op.TxnResponse
                  : inner
            )
          ))
    ),
    noticedBy: [
      "of many txns on one condition exactly one wins",
      "of many testAndSets that expect the same, exactly one wins",
      "modify loses no update, by however many fibers and clients"
    ],
    differs: false
  },
  {
    title: "puts a key twice in a txn",
    apply: onExecute((op, execute) => {
      if (op._tag !== "Txn") return execute(op)
      const last = new Map(op.then.flatMap((inner, i) => inner._tag === "Put" ? [[inner.key, i] as const] : []))
      const then = op.then.map((inner, i) =>
        inner._tag === "Put" && last.get(inner.key) !== i ? Op.get(inner.key) : inner
      )
      return execute(Op.txn({ if: op.if, then, else: op.else }))
    }),
    noticedBy: ["a key put twice is rejected, through nested txns too"],
    differs: true
  }
]

const leases: ReadonlyArray<Mutant> = [
  {
    title: "drops the lease of a put",
    apply: onOp((op) => op._tag === "Put" ? Op.put(op.key, op.value, { previous: op.previous }) : op),
    noticedBy: ["an entry carries its lease", "an unknown lease is LeaseNotFound, to everything"],
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
    noticedBy: ["a put without a lease detaches the key from the one it had"],
    differs: true
  },
  {
    title: "grants less than was asked for",
    apply: (backend) => ({
      ...backend,
      leaseGrant: (options) =>
        Effect.map(backend.leaseGrant(options), (lease) => ({ ...lease, ttl: Duration.seconds(1) }))
    }),
    noticedBy: ["a lease is granted for at least as long as asked, in whole seconds"],
    differs: true
  },
  {
    title: "keeps a dead lease alive",
    apply: (backend) => ({
      ...backend,
      leaseKeepAlive: (id) =>
        Effect.catch(backend.leaseKeepAlive(id), () => Effect.succeed({ id, ttl: Duration.seconds(60) }))
    }),
    noticedBy: ["an unknown lease is LeaseNotFound, to everything"],
    differs: true
  },
  {
    title: "keeps no lease alive",
    apply: (backend) => ({
      ...backend,
      leaseKeepAlive: (id) => Effect.map(backend.leaseTimeToLive(id), ({ grantedTtl }) => ({ id, ttl: grantedTtl }))
    }),
    noticedBy: ["a lease that is kept alive lives on, and its keys with it"],
    differs: false
  },
  {
    title: "lets no lease expire",
    apply: (backend) => ({
      ...backend,
      leaseGrant: (options) =>
        Effect.map(
          backend.leaseGrant({ ...options, ttl: Duration.hours(1) }),
          (lease) => ({ ...lease, ttl: Duration.fromInputUnsafe(options.ttl) })
        )
    }),
    noticedBy: ["a lease that is not kept alive expires, and its keys are deleted in one revision"],
    differs: true
  },
  {
    title: "says nothing of a lease's keys",
    apply: (backend) => ({
      ...backend,
      leaseTimeToLive: (id, options) =>
        Effect.map(backend.leaseTimeToLive(id, options), (status) => ({ ...status, keys: [] }))
    }),
    noticedBy: ["the time to live tells what was granted and is left, and on request the keys in order"],
    differs: true
  }
]

const errors: ReadonlyArray<Mutant> = [
  {
    title: "calls every failure Unavailable",
    apply: onExecute((op, execute) =>
      Effect.catch(execute(op), () => KvError.fail(new KvError.Unavailable({ message: "something went wrong" })))
    ),
    noticedBy: [
      "a request that is too large is rejected as such, and the connection goes on",
      "an empty key is rejected, everywhere"
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
    title: "writes what it refuses",
    apply: onExecute((op, execute) =>
      op._tag === "Put"
        ? Effect.tapError(execute(op), () => Effect.ignore(execute(Op.put("refused", "v"))))
        : execute(op)
    ),
    noticedBy: ["a lone surrogate in a value is rejected, never replaced"],
    differs: true
  }
]

const watches: ReadonlyArray<Mutant> = [
  {
    title: "loses an event in seven",
    apply: (backend) => {
      const now = every(7)
      return onBatches((batches) => batches.filter(() => !now()))(backend)
    },
    noticedBy: ["a watch from the first revision replays all there was"],
    differs: false
  },
  {
    title: "delivers an event in ten twice",
    apply: (backend) => {
      const now = every(10)
      return onBatches((batches) => batches.flatMap((batch) => now() ? [batch, batch] : [batch]))(backend)
    },
    noticedBy: ["a watch from the first revision replays all there was"],
    differs: true
  },
  {
    title: "delivers events in the wrong order",
    apply: onBatches((batches) => batches.toReversed()),
    noticedBy: ["a watch from the first revision replays all there was"],
    differs: false
  },
  {
    title: "splits a revision",
    apply: onBatches((batches) =>
      batches.flatMap((batch) => batch.events.map((event) => ({ ...batch, events: [event] as const })))
    ),
    noticedBy: ["the events of a revision stay together, in the order they were made"],
    differs: true
  },
  {
    title: "starts each watch now",
    apply: onBatches((batches) => batches, (request) => ({ ...request, startRevision: undefined })),
    noticedBy: ["a watch from a revision in the past replays what happened since"],
    differs: false
  },
  {
    title: "takes every put for a creation",
    apply: onEvents((event) => event._tag === "Put" ? { ...event, isCreate: true } : event),
    noticedBy: ["a confirmed watch delivers everything after its revision, in order"],
    differs: true
  },
  {
    title: "forgets what was there before",
    apply: onEvents((event) => ({ ...event, previous: Option.none() })),
    noticedBy: ["the previous entry comes on request, where history still holds it"],
    differs: true
  },
  {
    title: "does not filter by kind",
    apply: onBatches((batches) => batches, (request) => ({ ...request, only: undefined })),
    noticedBy: ["events can be of one kind only"],
    differs: true
  },
  {
    title: "watches more than was asked for",
    apply: onBatches((batches) => batches, (request) => ({
      ...request,
      range: request.range._tag === "Key" ? KeyRange.prefix(request.range.key) : request.range
    })),
    noticedBy: ["the watch of one key sees that key alone"],
    differs: true
  }
]

/** All of them. */
export const mutants: ReadonlyArray<Mutant> = [
  ...keys,
  ...reads,
  ...writes,
  ...txns,
  ...leases,
  ...renewals,
  ...errors,
  ...watches
]
