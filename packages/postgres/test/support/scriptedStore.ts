/**
 * A log in memory behind the statements of the watches, whose notifications and responses a test controls.
 */
import type * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import type { Watcher, WatchRequest } from "@effect-kv/core/Watch"
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import type * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import { bytesOf, compareBytes } from "../../src/internal/bytes.ts"
import * as calls from "../../src/internal/calls.ts"
import type { Connection, PositionIn } from "../../src/internal/connection.ts"
import { Identity } from "../../src/internal/identity.ts"
import { type Item, kind } from "../../src/internal/items.ts"
import type { Row, Statement } from "../../src/internal/statement.ts"
import type { Feed } from "../../src/internal/watch/feed.ts"
import * as watches from "../../src/internal/watch/watches.ts"

interface Written {
  readonly revision: bigint
  readonly isDelete: boolean
  readonly key: Uint8Array
}

export interface ScriptedStore {
  readonly feed: Feed
  readonly open: (
    range: KeyRange.KeyRange,
    options?: Omit<WatchRequest, "range">
  ) => Effect.Effect<Watcher, KvError.KvError, Scope.Scope>
  /** The statements since the last call of this function: `changes`, `state` or `notify`. */
  readonly statements: () => ReadonlyArray<string>
  /** How many events were read since the last call of this function. */
  readonly eventsRead: () => number
  /** Writes the keys in one revision, and returns it. No notification is sent. */
  readonly write: (...keys: ReadonlyArray<string>) => bigint
  /** Deletes the keys in one revision, and returns it. No notification is sent. */
  readonly remove: (...keys: ReadonlyArray<string>) => bigint
  /** Sends the notification of a revision that writes the keys, and waits until it was processed. */
  readonly notify: (revision: bigint, ...keys: ReadonlyArray<string>) => Effect.Effect<void>
  /** The client sees a revision in the response to a call. */
  readonly see: (revision: bigint) => void
  /** The client reads the state of the store and reports its revision to the feed, as its sweeper does. */
  readonly sweep: Effect.Effect<void>
  /** Ends the connection of the listener. The notifications that it has not read are lost. */
  readonly breakListener: Effect.Effect<void>
  /**
   * No notification arrives any more, as behind a pooler; or they arrive again. `untilNext`: none arrives on the connection
   * of the present listener, as if a load balancer had forgotten it.
   */
  readonly setDeaf: (isDeaf: boolean | "untilNext") => void
  /** How many connections listen, and how many did. */
  readonly listeners: () => readonly [number, number]
  /** The store goes back to a revision. The client does not know it yet. */
  readonly restore: (revision: bigint) => void
  /** Compacts the history up to a revision, of which nothing is left. */
  readonly compact: (revision: bigint) => void
  /** Closed: the responses to statements are delayed. They are those of the time at which the statement was executed. */
  readonly responses: Latch.Latch
  /** Closed: the database does not confirm a listener. */
  readonly confirmations: Latch.Latch
  /** Closed: connections of listeners are not released, as a silent one is not. */
  readonly releases: Latch.Latch
  /** Whether statements fail. */
  readonly setDown: (isDown: boolean) => void
}

export interface Options {
  readonly canListen: boolean
  /** Whether the notification arrives by which the feed learns that notifications do. Default: true. */
  readonly isHeard?: boolean
}

export const make = (options: Options = { canListen: true }): Effect.Effect<
  ScriptedStore,
  never,
  Scope.Scope
> =>
  Effect.gen(function*() {
    let log: Array<Written> = []
    let revision = 10n
    let compacted = 0n
    let isDown = false
    let made: Array<string> = []
    let eventsRead = 0
    const responses = yield* Latch.make(true)
    const confirmations = yield* Latch.make(true)
    const releases = yield* Latch.make(true)
    let queue = yield* Queue.unbounded<PgConnection.Notification, SqlError>()
    const identity = new Identity()
    const closing = new Set<() => void>()
    let isDeaf: boolean | "untilNext" = false
    let listening = 0
    let listened = 0
    const listen = Effect.acquireRelease(
      Effect.sync(() => {
        listening++
        if (isDeaf === "untilNext") isDeaf = false
        return queue
      }),
      () =>
        Effect.andThen(
          releases.await,
          Effect.sync(() => {
            listening--
            listened++
          })
        )
    )
    const send = (payload: string): void => {
      if (isDeaf === false) Queue.offerUnsafe(queue, { processId: 1, channel: "s", payload })
    }

    const changes = (params: ReadonlyArray<unknown>): ReadonlyArray<Item> => {
      const [since, , start, end, only, , most] = params.map((parameter) => (parameter as PgTypes.Parameter).value)
      const from = (since ?? revision + 1n) as bigint
      if (from <= compacted) return [item(kind.compacted, { n: compacted })]
      const all = log.filter((written) =>
        written.revision >= from && compareBytes(start as Uint8Array, written.key) <= 0 &&
        compareBytes(written.key, end as Uint8Array) < 0 &&
        (only === null || written.isDelete === (only === kind.delete))
      )
      // A page ends with the revision that reaches the limit.
      const last = all[Number(most) - 1]?.revision
      const found = last === undefined ? all : all.filter((written) => written.revision <= last)
      eventsRead += found.length
      const through = found.length < all.length ? last! : revision
      const n = through > from - 1n ? through : from - 1n
      return [
        ...found.map((written) =>
          item(written.isDelete ? kind.delete : kind.put, { key: written.key, modified: written.revision })
        ),
        item(kind.revision, { n, modified: revision, epoch: 1n })
      ]
    }

    const execute = ({ params, sql }: Statement): ReadonlyArray<Row> => {
      if (sql.includes(".changes(")) {
        made.push("changes")
        return changes(params)
      }
      if (sql.includes("pg_notify")) {
        made.push("notify")
        if (options.isHeard !== false) send("listening")
        return []
      }
      made.push("state")
      return [[revision, 1n, compacted, compacted, compacted, null]]
    }

    const to = {
      identity,
      schema: "s",
      settings: { schema: "s" },
      backgroundDeadline: Duration.seconds(5),
      metrics: undefined,
      isOpen: true,
      canListen: options.canListen,
      pg: { listen: () => Effect.andThen(confirmations.await, listen) },
      onClose: (f: () => void) => {
        closing.add(f)
        return () => closing.delete(f)
      },
      read: (statement: Statement, positionIn?: PositionIn) =>
        Effect.suspend(() => {
          if (isDown) return KvError.fail(new KvError.Unavailable({ message: "down" }))
          const { sent } = identity
          const rows = execute(statement)
          return Effect.flatMap(responses.await, () => {
            const seen = positionIn?.(rows)
            const problem = seen === undefined ? undefined : identity.observe(seen, sent, "read")
            return KvError.isKvError(problem) ? Effect.fail(problem) : Effect.succeed(rows)
          })
        })
    } as unknown as Connection

    const run = Effect.runForkWith(yield* Effect.context<never>())
    const { feed, open } = watches.make(to, run, () => {})
    yield* Effect.addFinalizer(() => Effect.sync(() => closing.forEach((end) => end())))
    return {
      feed,
      open: (range, request) => open({ range, ...request }),
      statements: () => {
        const since = made
        made = []
        return since
      },
      eventsRead: () => {
        const since = eventsRead
        eventsRead = 0
        return since
      },
      write: (...keys) => {
        revision++
        for (const key of keys) log.push({ revision, key: bytesOf(key), isDelete: false })
        return revision
      },
      remove: (...keys) => {
        revision++
        for (const key of keys) log.push({ revision, key: bytesOf(key), isDelete: true })
        return revision
      },
      sweep: Effect.ignore(Effect.flatMap(calls.readState(to), (state) => feed.noticed(state.revision))),
      breakListener: Effect.suspend(() => {
        Queue.failCauseUnsafe(queue, Cause.fail(broken))
        return Effect.flatMap(Queue.unbounded<PgConnection.Notification, SqlError>(), (next) => {
          queue = next
          return settled
        })
      }),
      setDeaf: (now) => {
        isDeaf = now
      },
      listeners: () => [listening, listened],
      restore: (to) => {
        revision = to
        log = log.filter((written) => written.revision <= to)
      },
      notify: (of, ...keys) =>
        Effect.suspend(() => {
          send(`${of} ${keys.map((key) => Buffer.from(key).toString("hex")).join(",")}`)
          return settled
        }),
      see: (seen) => {
        identity.observe({ revision: seen, epoch: 1n }, identity.sent, "read")
      },
      compact: (at) => {
        compacted = at
      },
      responses,
      confirmations,
      releases,
      setDown: (now) => {
        isDown = now
      }
    }
  })

const broken = new SqlError({
  reason: new ConnectionError({ cause: new Error("broken"), message: "broken", operation: "query" })
})

/** Lets all other fibers run until they wait for something. */
export const settled: Effect.Effect<void> = Effect.replicateEffect(Effect.yieldNow, 100, { discard: true })

const item = (
  itsKind: number,
  { epoch, key, modified, n }: {
    readonly n?: bigint
    readonly key?: Uint8Array
    readonly modified?: bigint
    readonly epoch?: bigint
  }
): Item => [
  itsKind,
  null,
  n ?? null,
  key ?? null,
  key === undefined ? null : new Uint8Array(0),
  modified ?? null,
  modified ?? null,
  1n,
  epoch ?? 0n
]
