/**
 * The feed of a client: reads each change of the watched keys once and passes it to the client's watches.
 *
 * Between reads it waits for a notification of the database. The changes are what the log holds after the last revision
 * it delivered, so a lost, duplicate or wrong notification loses and repeats no event. The read can wait if the
 * notification is that of the next revision and names its keys, and no watch requests one of them.
 *
 * A notification can be lost, and any role of the database can make one up. The sweeper, which reads the state of the
 * store every few seconds anyway, reports its revision: the feed reads if that is after what it delivered. So a client
 * whose watches are idle makes no statement for them.
 *
 * A pooler in transaction mode accepts a listener and passes no notification on, and a connection that a load balancer has
 * forgotten looks alive. So the feed notifies itself first, and again after a notification was lost. Until that arrives it
 * reads at a short interval, and always if the pool has only one connection, which cannot listen. If notifications have
 * arrived on a connection and do not any more, it listens on another one.
 */
import * as KvError from "@effect-kv/core/KvError"
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { isWithin } from "../bytes.ts"
import * as calls from "../calls.ts"
import type { Connection } from "../connection.ts"
import { kind, nOf } from "../items.ts"
import { monotonicMillis } from "../realTime.ts"
import * as sqlErrors from "../sqlErrors.ts"
import { changesOf } from "./events.ts"
import { covers, hullOf } from "./hull.ts"
import * as notification from "./notification.ts"
import type { WatchState } from "./watchState.ts"

/**
 * How long the feed may leave a revision undelivered that no notification made it read, in milliseconds: a lost or forged
 * notification must not silence a watch.
 */
const longestBehind = 5000

/**
 * How long the feed waits for the revision of the store before it reads by itself, in milliseconds. The sweeper reads every
 * five seconds, but may be cleaning the history, or fail.
 */
const longestUnchecked = 7500

/** How often the feed reads while no notification has arrived, or if it cannot listen, in milliseconds. */
const pollInterval = 200

/** How long the first notification may take until a warning is logged and another listener begins, in milliseconds. */
const patience = 2000

/** How long the database may take to confirm that the feed listens. A pool may be in use, and a connection silent. */
const listenTimeout = "5 seconds"

/** How long the feed keeps running without watches: a client that waits for locks opens one watch after the other. */
const linger = "2 seconds"

/** How many irrelevant revisions the feed remembers. */
const mostPassed = 256

export class Feed {
  readonly watches = new Set<WatchState>()
  readonly #to: Connection
  readonly #onLease: () => void
  #delivered: bigint | undefined = undefined
  /** The last revision of which it is known that no watch requests it or one of those after `delivered`. */
  #passed: bigint | undefined = undefined
  /** The last ones of the revisions between `delivered` and `passed`, one after the other. */
  #passedOver: Array<notification.Named> = []
  /** The last revision of the store that was reported. */
  #noticed = 0n
  /** When the log was read last, and when the revision of the store was known last. */
  #drainedAt = 0
  #checkedAt = 0
  #onNoticed: (() => void) | undefined = undefined
  /** Whether notifications arrive; if not, since when, and whether it has been logged. */
  #hears = false
  #listeningSince = 0
  #hasWarned = false
  /** Whether a notification has arrived on the connection of the listener. */
  #hasHeard = false
  readonly #run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  #fiber: Fiber.Fiber<void> | undefined = undefined
  #ending: Fiber.Fiber<void> | undefined = undefined
  /** How many listeners have ended whose connection has not been released yet. */
  #releasing = 0
  /** Whether the last listener has failed. */
  #hasFailed = false
  /** Whether the last read or listener succeeded. */
  #isLive = false

  constructor(to: Connection, run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>, onLease: () => void) {
    this.#to = to
    this.#run = run
    this.#onLease = onLease
  }

  /**
   * The last revision whose changes were delivered, or need not be; `undefined` if the feed does not run. A watch that has
   * read the log up to here misses nothing.
   */
  get position(): bigint | undefined {
    return this.#passed
  }

  /**
   * Whether the feed will deliver every event of the watch: then it can be added without reading the log. Nothing that it
   * requests has been delivered, and no notification of it was found irrelevant when the watch was not there.
   */
  isBefore(watch: WatchState): boolean {
    const passed = this.#passed
    if (!this.#isLive || passed === undefined) return false
    if (watch.revision >= passed) return true
    const [oldest] = this.#passedOver
    return oldest !== undefined && oldest.revision <= watch.revision + 1n &&
      !this.#passedOver.some((revision) => isRequested(watch, revision))
  }

  /** The store was at this revision just now. */
  noticed(revision: bigint): Effect.Effect<void> {
    return Effect.map(monotonicMillis, (now) => {
      this.#checkedAt = now
      if (revision > this.#noticed) this.#noticed = revision
      this.#onNoticed?.()
    })
  }

  /**
   * A read that was sent when the feed was at this position showed the revision of the store. If that is less, a
   * notification was made up, because the database notifies of a revision when all can read it. Then the feed reads again
   * what it has passed over, and no watch waits for a revision that does not exist.
   */
  compare(position: bigint | undefined, revision: bigint): void {
    if (position === undefined || revision >= position) return
    this.#passed = this.#delivered
    this.#passedOver = []
  }

  add(watch: WatchState): void {
    this.#ending?.interruptUnsafe()
    this.#ending = undefined
    this.watches.add(watch)
    this.#fiber ??= this.#run(this.#listening())
  }

  remove(watch: WatchState): void {
    if (!this.watches.delete(watch) || this.watches.size > 0) return
    this.#ending = this.#run(Effect.andThen(Effect.sleep(linger), Effect.sync(() => this.stop())))
  }

  stop(): void {
    this.#ending?.interruptUnsafe()
    this.#ending = undefined
    this.#fiber?.interruptUnsafe()
    this.#fiber = undefined
    this.#isLive = false
    this.#noticed = 0n
    this.#lost()
  }

  /** Listens until the last watch ends, on a new connection whenever the last one broke. */
  #listening(): Effect.Effect<void> {
    const listen: Effect.Effect<never, SqlError | KvError.KvError> = this.#to.canListen
      ? Effect.andThen(this.#polling(() => this.#releasing > 0), this.#withListener)
      : Effect.andThen(this.#polling(() => true), Effect.never)
    const again = (backoff: number): Effect.Effect<never> =>
      Effect.catchCause(listen, (cause) => {
        const failure = cause.reasons.find((reason) => reason._tag === "Fail")?.error
        this.#interrupted(
          failure === undefined
            ? "the connection broke"
            : KvError.isKvError(failure)
            ? failure.reason.message
            : sqlErrors.describe(failure)
        )
        this.#hasFailed = true
        // If only the listener failed, watches continue without notifications.
        return Effect.ignore(this.#drain()).pipe(
          Effect.andThen(Effect.sleep(backoff)),
          Effect.andThen(Effect.suspend(() => again(Math.min(backoff * 2, 1000))))
        )
      })
    return again(50)
  }

  /** Reads at a short interval as long as the condition holds. */
  #polling(isNeeded: () => boolean): Effect.Effect<void, KvError.KvError> {
    return Effect.suspend(() =>
      isNeeded()
        ? Effect.andThen(Effect.andThen(this.#drain(), Effect.sleep(pollInterval)), this.#polling(isNeeded))
        : Effect.void
    )
  }

  /**
   * Follows a listener, and does not wait for its end. The scope is closed in parallel, so that the connection is released
   * while it listens, which closes it. Otherwise the driver would ask it to stop listening first, and if it is dead without
   * a sign, that takes long, and the pool could not close meanwhile. As long as a former connection is not released, the
   * feed reads at a short interval, because another listener would take one more from the pool.
   */
  get #withListener(): Effect.Effect<never, SqlError | KvError.KvError> {
    return Effect.suspend(() => {
      const scope = Scope.makeUnsafe("parallel")
      const notifications = Scope.provide(this.#to.pg.listen(this.#to.settings.schema), scope)
      const listener = Effect.timeoutOrElse(notifications, {
        duration: listenTimeout,
        orElse: () => KvError.fail(new KvError.Unavailable({ message: "no connection of the PgClient could listen" }))
      })
      return Effect.onExit(
        Effect.flatMap(listener, (queue) => this.#follow(queue)),
        (exit) => Effect.sync(() => this.#release(scope, exit))
      )
    })
  }

  #release(scope: Scope.Closeable, exit: Exit.Exit<unknown, unknown>): void {
    this.#releasing++
    this.#run(Scope.close(scope, exit)).addObserver(() => {
      this.#releasing--
    })
  }

  #follow(
    notifications: Queue.Dequeue<PgConnection.Notification, SqlError>
  ): Effect.Effect<never, SqlError | KvError.KvError> {
    // A batch that arrives when a read becomes due may be dropped, because the read follows.
    const step = Effect.flatMap(
      Effect.raceFirst(this.#untilDue(), Queue.takeAll(notifications)),
      (batch) =>
        batch === undefined
          ? Effect.andThen(this.#notHeard, Effect.andThen(this.#drainUnnotified(), this.#unlessDeaf))
          : Effect.andThen(this.#heard, this.#isIrrelevant(batch) ? Effect.void : this.#drain())
    )
    if (this.#hasFailed) this.#to.metrics?.reconnected()
    this.#hasFailed = false
    this.#hasHeard = false
    return Effect.andThen(Effect.andThen(this.#begin, this.#drain()), Effect.forever(step))
  }

  /** Has the database notify the feed. Until that arrives it reads at a short interval. */
  get #begin(): Effect.Effect<unknown, KvError.KvError> {
    return Effect.flatMap(monotonicMillis, (now) => {
      this.#hears = false
      this.#listeningSince = now
      return this.#to.read(calls.notifySelf(this.#to))
    })
  }

  /** Drains when no notification asked for it. If one was lost, the next ones may not arrive either. */
  #drainUnnotified(): Effect.Effect<void, KvError.KvError> {
    return Effect.suspend(() => {
      const wasLost = this.#hears && this.#passed !== undefined && this.#noticed > this.#passed
      return wasLost ? Effect.andThen(this.#drain(), Effect.ignore(this.#begin)) : this.#drain()
    })
  }

  /** A notification has arrived. */
  get #heard(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#hears = true
      this.#hasHeard = true
      if (!this.#hasWarned) return Effect.void
      this.#hasWarned = false
      return Effect.logInfo("effect-kv: notifications of Postgres arrive again")
    })
  }

  /** No notification has arrived for an interval. */
  get #notHeard(): Effect.Effect<void> {
    return Effect.flatMap(monotonicMillis, (now) => {
      if (this.#hears || this.#hasWarned || now - this.#listeningSince < patience) return Effect.void
      this.#hasWarned = true
      return Effect.logWarning(
        `effect-kv: no notifications of Postgres arrive, so watches read every ${pollInterval} ms; ` +
          "a pooler in transaction mode does not pass them on, and a load balancer may have dropped the listener's connection"
      )
    })
  }

  /** Fails if notifications do not arrive any more. */
  get #unlessDeaf(): Effect.Effect<void, KvError.KvError> {
    return Effect.flatMap(
      monotonicMillis,
      (now) =>
        !this.#hears && this.#hasHeard && now - this.#listeningSince >= patience
          ? KvError.fail(new KvError.Unavailable({ message: "notifications do not arrive any more" }))
          : Effect.void
    )
  }

  /** Whether no notification concerns a range that is watched. */
  #isIrrelevant(notifications: ReadonlyArray<PgConnection.Notification>): boolean {
    let isIrrelevant = true
    for (const { payload } of notifications) {
      if (payload === "lease") this.#onLease()
      else isIrrelevant &&= this.#isOther(notification.parse(payload))
    }
    return isIrrelevant
  }

  /** Whether a revision is the next one and no watch requests one of its keys. */
  #isOther({ keys, revision }: notification.Revision): boolean {
    const passed = this.#passed
    if (passed === undefined) return false
    if (revision <= passed) return true
    if (revision !== passed + 1n || keys === undefined) return false
    for (const watch of this.watches) if (isRequested(watch, { keys, revision })) return false
    this.#passed = revision
    this.#passedOver.push({ keys, revision })
    if (this.#passedOver.length > mostPassed) this.#passedOver.shift()
    return true
  }

  /** When the feed reads without a notification. */
  get #dueAt(): number {
    if (!this.#hears) return this.#drainedAt + pollInterval
    const isBehind = this.#delivered !== undefined && this.#noticed > this.#delivered
    return isBehind ? this.#drainedAt + longestBehind : this.#checkedAt + longestUnchecked
  }

  #untilDue(): Effect.Effect<undefined> {
    const untilNoticed = Effect.callback<void>((resume) => {
      this.#onNoticed = () => resume(Effect.void)
      return Effect.sync(() => {
        this.#onNoticed = undefined
      })
    })
    const check: Effect.Effect<undefined> = Effect.flatMap(monotonicMillis, (now) => {
      const rest = this.#dueAt - now
      return rest <= 0
        ? Effect.undefined
        : Effect.andThen(Effect.raceFirst(Effect.sleep(rest), untilNoticed), check)
    })
    return check
  }

  /** Delivers all changes up to now. */
  #drain(): Effect.Effect<void, KvError.KvError> {
    return Effect.tap(this.#read(), () => this.#checked)
  }

  get #checked(): Effect.Effect<void> {
    return Effect.map(monotonicMillis, (now) => {
      this.#drainedAt = now
      this.#checkedAt = now
    })
  }

  #read(): Effect.Effect<void, KvError.KvError> {
    return Effect.suspend(() => {
      const delivered = this.#delivered
      if (delivered === undefined) {
        return Effect.map(calls.readState(this.#to), ({ revision }) => this.#start(revision))
      }
      const interval = hullOf(this.watches)
      return Effect.flatMap(
        this.#to.read(
          calls.changes(this.#to, {
            since: delivered + 1n,
            isOpening: false,
            interval,
            only: undefined,
            previous: false
          }),
          calls.positionIn
        ),
        (rows) => {
          const items = calls.itemsOf(rows)
          const last = items[items.length - 1]!
          if (last[0] === kind.compacted) {
            this.#lost()
            for (const watch of this.watches) watch.lost()
            return this.#read()
          }
          const through = nOf(last)
          const changes = changesOf(items)
          for (const watch of this.watches) {
            // A watch of other keys was opened after the read was sent.
            if (!covers(interval, watch.interval)) watch.notRead(through)
            else {
              for (const change of changes) watch.offer(change)
              watch.delivered(through)
            }
          }
          this.#delivered = through
          this.#passed = through
          this.#passedOver = []
          this.#interrupted(undefined)
          return calls.isFullPage(changes) ? this.#read() : Effect.void
        }
      )
    })
  }

  #start(revision: bigint): void {
    this.#delivered = revision
    this.#passed = revision
    this.#interrupted(undefined)
    for (const watch of this.watches) watch.lost()
  }

  #lost(): void {
    this.#delivered = undefined
    this.#passed = undefined
    this.#passedOver = []
  }

  #interrupted(message: string | undefined): void {
    this.#isLive = message === undefined
    for (const watch of this.watches) watch.interrupted(message)
  }
}

/** Whether the watch requests one of the keys. */
const isRequested = (watch: WatchState, { keys, revision }: notification.Named): boolean =>
  watch.isAt(revision) && keys.some((key) => isWithin(watch.interval, key))
