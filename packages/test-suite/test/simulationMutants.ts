/**
 * Mutants of clients whose bugs only show under rare interleavings, which the simulation must produce.
 */
import { compareKeys } from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import { Workload } from "@effect-kv/test-suite/verification"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { every, guardedWrite, onEntry, onExecute, unguarded, withValue } from "./mutating.ts"

/** A client with one bug. */
export interface SimulatedMutant {
  /** Completes the sentence "a client that ...". */
  readonly title: string
  /** The kind of violation that must be found, if it must be a certain one. */
  readonly as?: string
  /** Called for each process of each run. */
  readonly between: (backend: KvBackend) => KvBackend
}

const onTake = (f: (take: Watch.Watcher["take"]) => Watch.Watcher["take"]) => (backend: KvBackend): KvBackend => ({
  ...backend,
  watch: (request) => Effect.map(backend.watch(request), (watcher) => ({ ...watcher, take: f(watcher.take) }))
})

const isIndeterminate = (error: KvError.KvError): boolean => error.reason._tag === "Indeterminate"

/** Executes the transactions that put such a key without their conditions. */
const unconditional = (key: RegExp) =>
  onExecute((op, execute) =>
    op._tag === "Txn" && op.then.some((each) => each._tag === "Put" && key.test(each.key))
      ? execute(Op.txn({ then: op.then, else: op.else }))
      : execute(op)
  )

/** All mutants. */
export const simulatedMutants: ReadonlyArray<SimulatedMutant> = [
  {
    title: "does not fence the writes of a holder",
    between: unguarded((op) => op._tag !== "Delete")
  },
  {
    title: "starts a tick without comparing what it has seen",
    as: "TickTwice",
    between: onExecute((op, execute) =>
      op._tag === "Txn" && op.then.some((each) => each._tag === "Put" && each.key.endsWith("/once/run"))
        ? execute(
          Op.txn({ if: op.if.filter(({ target }) => target === "CreateRevision"), then: op.then, else: op.else })
        )
        : execute(op)
    )
  },
  {
    title: "does not fence the writes of a slot's holder",
    as: "BrokenInvariant",
    between: unguarded((op) => op._tag === "Put" && op.key.endsWith("/slot-count"))
  },
  {
    title: "reserves numbers without comparing what it has read",
    as: "BrokenInvariant",
    between: unconditional(/\/sequence\/next$/)
  },
  {
    title: "updates a typed value without comparing what it has read",
    as: "BrokenInvariant",
    between: unconditional(/\/users\//)
  },
  {
    title: "does not fence a service that captured Kv before the lock was acquired",
    between: unguarded((op) =>
      op._tag === "Put" && typeof op.value === "string" && op.value.endsWith(Workload.captured)
    )
  },
  {
    title: "does not fence the writes of a leader",
    between: unguarded((op) => op._tag === "Put" && typeof op.value === "string" && op.value.includes(Workload.elected))
  },
  {
    title: "proclaims without checking that it leads",
    as: "BrokenInvariant",
    between: onExecute((op, execute) => {
      const proclamation = guardedWrite(op)
      const write = proclamation?._tag === "Txn" && proclamation.if[0]?.target === "ModRevision"
        ? proclamation.then[0]
        : undefined
      return write === undefined ? execute(op) : Effect.map(execute(write), (response): Op.Response => ({
        _tag: "Txn",
        revision: response.revision,
        succeeded: true,
        responses: [{ _tag: "Txn", revision: response.revision, succeeded: true, responses: [response] }]
      }))
    })
  },
  {
    title: "releases a lock that another client may hold by then",
    between: onExecute((op, execute) => {
      const write = guardedWrite(op)
      if (write?._tag !== "Delete" || write.range._tag !== "Key") return execute(op)
      // The oldest key of the queue, whichever client owns it.
      const name = write.range.key.slice(0, write.range.key.lastIndexOf("/") + 1)
      return Effect.map(
        execute(Op.deleteRange({ _tag: "HalfOpen", start: name, end: `${name.slice(0, -1)}0` })),
        ({ revision }): Op.Response => ({
          _tag: "Txn",
          revision,
          succeeded: true,
          responses: [{ _tag: "Delete", revision, deleted: 1, previous: [] }]
        })
      )
    })
  },
  {
    title: "acquires a lock without checking the contenders ahead",
    between: onExecute((op, execute) =>
      Effect.map(
        execute(op),
        (response) =>
          op._tag === "Txn" && response._tag === "Txn" && response.responses.length === 2 && op.if.length < 2
            ? {
              ...response,
              responses: response.responses.map((inner) =>
                inner._tag === "Range" && inner.entries.length > 1
                  ? { ...inner, entries: inner.entries.slice(0, 1) }
                  : inner
              )
            } as Op.Response
            : response
      )
    )
  },
  {
    title: "acquires permits without adding up those ahead",
    between: onEntry("/permits/", (range) => ({ ...range, entries: [], count: 0, more: false }))
  },
  {
    title: "counts each holder of permits as one",
    between: onEntry(
      "/permits/",
      (range) => ({ ...range, entries: range.entries.map((entry) => withValue(entry, "1")) })
    )
  },
  {
    title: "reads beside a writer",
    between: onEntry("/read/", (range) => ({ ...range, entries: [], count: 0, more: false }))
  },
  {
    title: "writes beside readers",
    between: onEntry("/write/", (range) => ({
      ...range,
      entries: range.entries.filter(({ key }) => !key.includes("/read/")),
      more: false
    }))
  },
  {
    title: "does not fence the writes of those that share a lock",
    between: unguarded((op) => op._tag === "Put" && op.key.endsWith(Workload.shared))
  },
  {
    title: "treats an ended lease as alive",
    between: (backend) => ({
      ...backend,
      leaseKeepAlive: (id) =>
        Effect.catchReason(
          backend.leaseKeepAlive(id),
          "KvError",
          "LeaseNotFound",
          () => Effect.succeed({ id, ttl: Duration.seconds(2) })
        )
    })
  },
  {
    title: "counts the time of a lease from the response to a renewal instead of the request",
    between: (backend) => ({
      ...backend,
      leaseKeepAlive: (id) =>
        Effect.map(
          Effect.timed(backend.leaseKeepAlive(id)),
          ([taken, lease]) => ({ ...lease, ttl: Duration.sum(lease.ttl, taken) })
        )
    })
  },
  {
    title: "reports an exceeded deadline one second late",
    as: "Overdue",
    between: onExecute((op, execute) =>
      Effect.catch(execute(op), (error) => Effect.delay(Effect.fail(error), "1 second"))
    )
  },
  {
    title: "does not re-create a temporary key",
    as: "BrokenInvariant",
    between: (backend) => {
      const made = new Set<string>()
      return onExecute((op, execute) => {
        const put = op._tag === "Txn" ? op.then.find((inner) => inner._tag === "Put") : undefined
        if (put?.lease === undefined || !put.key.includes("temporary")) return execute(op)
        const again = made.has(put.key)
        made.add(put.key)
        return again ? KvError.fail(new KvError.PermissionDenied({ message: "once is enough" })) : execute(op)
      })(backend)
    }
  },
  {
    title: "fails one call in twenty without reason",
    as: "NeedlessFailure",
    between: (backend) => {
      const now = every(20)
      return onExecute((op, execute) =>
        now() ? KvError.fail(new KvError.Unavailable({ message: "not today" })) : execute(op)
      )(backend)
    }
  },
  {
    title: "never completes one read in three",
    as: "Stuck",
    between: (backend) => {
      const now = every(3)
      return onExecute((op, execute) => op._tag === "Range" && now() ? Effect.never : execute(op))(backend)
    }
  },
  {
    title: "applies one put in three twice",
    between: (backend) => {
      const now = every(3)
      return onExecute((op, execute) =>
        op._tag === "Put" && now() ? Effect.andThen(execute(op), execute(op)) : execute(op)
      )(backend)
    }
  },
  {
    title: "loses one put in three and confirms it",
    between: (backend) => {
      const now = every(3)
      return onExecute((op, execute) =>
        op._tag === "Put" && now()
          ? Effect.map(execute(Op.get(op.key)), ({ revision }): Op.Response => ({
            _tag: "Put",
            revision,
            previous: { _tag: "None" } as never
          }))
          : execute(op)
      )(backend)
    }
  },
  {
    title: "retries a write that may have been applied",
    between: onExecute((op, execute) => Effect.catchIf(execute(op), isIndeterminate, () => execute(op)))
  },
  {
    title: "reports a write of unknown outcome as not applied",
    between: onExecute((op, execute) =>
      Effect.catchIf(
        execute(op),
        isIndeterminate,
        () => KvError.fail(new KvError.Unavailable({ message: "no response" }))
      )
    )
  },
  {
    title: "returns the previous response to one read in three",
    between: (backend) => {
      const seen = new Map<string, Op.Response>()
      const now = every(3)
      return onExecute((op, execute) => {
        if (op._tag !== "Range" || op.range._tag !== "Key" || op.countOnly === true || op.keysOnly === true) {
          return execute(op)
        }
        const { key } = op.range
        const before = seen.get(key)
        return before !== undefined && now()
          ? Effect.succeed(before)
          : Effect.tap(execute(op), (response) => Effect.sync(() => seen.set(key, response)))
      })(backend)
    }
  },
  {
    title: "batches two puts of one key into one, and confirms both",
    between: (backend) => {
      const underWay = new Map<string, Deferred.Deferred<Op.Response, KvError.KvError>>()
      return onExecute((op, execute) =>
        Effect.suspend(() => {
          if (op._tag !== "Put") return execute(op)
          const first = underWay.get(op.key)
          if (first !== undefined) return Deferred.await(first)
          const mine = Deferred.makeUnsafe<Op.Response, KvError.KvError>()
          underWay.set(op.key, mine)
          return Effect.onExit(execute(op), (exit) =>
            Effect.suspend(() => {
              underWay.delete(op.key)
              return Deferred.done(mine, Exit.hasInterrupts(exit) ? Exit.fail(interrupted) : exit)
            }))
        })
      )(backend)
    }
  },
  {
    title: "executes the operations of a transaction one by one",
    between: onExecute((op, execute) =>
      op._tag !== "Txn" || op.if.length > 0 || op.then.length < 2 ? execute(op) : Effect.map(
        Effect.forEach(op.then, (inner) => execute(inner)),
        (responses): Op.Response => ({
          _tag: "Txn",
          revision: responses.at(-1)!.revision,
          succeeded: true,
          responses
        })
      )
    )
  },
  {
    title: "checks the conditions first and writes later",
    between: onExecute((op, execute) =>
      op._tag !== "Txn" || op.if.length === 0 ?
        execute(op) :
        Effect.flatMap(execute(Op.txn({ if: op.if })), (looked) =>
          Effect.map(
            execute(Op.txn({ then: looked._tag === "Txn" && looked.succeeded ? op.then : op.else })),
            (written): Op.Response =>
              looked._tag === "Txn" && written._tag === "Txn"
                ? { ...written, succeeded: looked.succeeded } as Op.TxnResponse
                : written
          ))
    )
  },
  {
    title: "transfers without comparing what it has read",
    as: "BrokenInvariant",
    between: onExecute((op, execute) =>
      execute(
        op._tag === "Txn" && op.then.some((inner) => inner._tag === "Put" && inner.key.includes("/account/"))
          ? Op.txn({ then: op.then, else: op.else })
          : op
      )
    )
  },
  {
    title: "loses the events of an interrupted take",
    between: onTake((take) => Effect.flatMap(take, (batches) => Effect.as(Effect.sleep("20 millis"), batches)))
  },
  {
    title: "delivers the events of a revision one by one in key order",
    between: onTake((take) =>
      Effect.map(
        take,
        (batches) =>
          batches.flatMap((batch) =>
            batch.events.toSorted((a, b) => compareKeys(a.key, b.key)).map((event): Watch.Revision => ({
              revision: batch.revision,
              events: [event]
            }))
          ) as never
      )
    )
  },
  {
    title: "never revokes a lease",
    as: "LeftBehind",
    between: (backend) => ({
      ...backend,
      leaseGrant: (options) => backend.leaseGrant({ ...options, ttl: "1 hour" }),
      leaseRevoke: () => Effect.void
    })
  }
]

const interrupted = KvError.make(new KvError.Indeterminate({ message: "the other was interrupted" }))
