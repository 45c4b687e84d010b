/**
 * The feed of a client: reads each change of the store once and passes it to the client's watches.
 *
 * Between reads it waits for a notification of the database. The changes are what the log holds after the last revision
 * it delivered, so a lost, duplicate or wrong notification loses and repeats no event. The read can wait if the
 * notification is that of the next revision and names its keys, and no watch requests one of them. Without notifications
 * the feed reads at an interval.
 */
import type * as KvError from "@effect-kv/core/KvError"
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import type { SqlError } from "effect/sql/SqlError"
import { everything, isWithin } from "../bytes.ts"
import * as calls from "../calls.ts"
import type { Connection } from "../connection.ts"
import { kind, nOf } from "../items.ts"
import * as sqlErrors from "../sqlErrors.ts"
import { changesOf } from "./events.ts"
import * as notification from "./notification.ts"
import type { WatchState } from "./watchState.ts"

/** How often the feed reads without a notification: a lost listener must not silence a watch. */
const idleInterval = Duration.seconds(5)

/** How long the feed keeps running without watches: a client that waits for locks opens one watch after the other. */
const linger = "2 seconds"

export class Feed {
  readonly watches = new Set<WatchState>()
  readonly #to: Connection
  readonly #onLease: () => void
  #delivered: bigint | undefined = undefined
  /** The last revision of which it is known that no watch requests it or one of those after `delivered`. */
  #passed: bigint | undefined = undefined
  #drainedAt = 0
  readonly #run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  #fiber: Fiber.Fiber<void> | undefined = undefined
  #ending: Fiber.Fiber<void> | undefined = undefined
  /** Whether the last listener has failed. */
  #hasFailed = false

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
    this.#delivered = undefined
    this.#passed = undefined
  }

  /** Listens until the last watch ends, on a new connection whenever the last one broke. */
  #listening(): Effect.Effect<void> {
    const listen: Effect.Effect<never, SqlError | KvError.KvError> = Effect.scoped(
      Effect.flatMap(this.#to.pg.listen(this.#to.settings.schema), (notifications) => this.#follow(notifications))
    )
    const again = (backoff: number): Effect.Effect<never> =>
      Effect.catchCause(listen, (cause) => {
        this.#interrupted(
          cause.reasons.map((reason) =>
            reason._tag === "Fail" && "reason" in reason.error && reason.error._tag === "SqlError"
              ? sqlErrors.describe(reason.error)
              : "the connection broke"
          )[0] ?? "the connection broke"
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

  #follow(
    notifications: Queue.Dequeue<PgConnection.Notification, SqlError>
  ): Effect.Effect<never, SqlError | KvError.KvError> {
    const step = Effect.flatMap(
      Effect.timeoutOption(Queue.takeAll(notifications), idleInterval),
      (batch) => batch._tag === "Some" && this.#isIrrelevant(batch.value) ? this.#drainIfDue() : this.#drain()
    )
    if (this.#hasFailed) this.#to.metrics?.reconnected()
    this.#hasFailed = false
    return Effect.andThen(this.#drain(), Effect.forever(step))
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
    for (const { interval } of this.watches) if (keys.some((key) => isWithin(interval, key))) return false
    this.#passed = revision
    return true
  }

  /** Any role of the database can notify, so a notification is trusted for a few seconds only. */
  #drainIfDue(): Effect.Effect<void, KvError.KvError> {
    return Effect.flatMap(
      Clock.currentTimeMillis,
      (now) => now - this.#drainedAt >= Duration.toMillis(idleInterval) ? this.#drain() : Effect.void
    )
  }

  /** Delivers all changes up to now. */
  #drain(): Effect.Effect<void, KvError.KvError> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      this.#drainedAt = now
      const delivered = this.#delivered
      if (delivered === undefined) {
        return Effect.map(calls.readState(this.#to), ({ revision }) => this.#start(revision))
      }
      return Effect.flatMap(
        this.#to.read(
          calls.changes(this.#to, {
            since: delivered + 1n,
            isOpening: false,
            interval: everything,
            only: undefined,
            previous: false
          })
        ),
        (rows) => {
          const items = calls.itemsOf(rows)
          const last = items[items.length - 1]!
          if (last[0] === kind.compacted) {
            this.#delivered = undefined
            this.#passed = undefined
            for (const watch of this.watches) watch.lost()
            return this.#drain()
          }
          const through = nOf(last)
          const changes = changesOf(items)
          for (const watch of this.watches) {
            for (const change of changes) watch.offer(change)
            watch.delivered(through)
          }
          this.#delivered = through
          this.#passed = through
          this.#interrupted(undefined)
          return calls.isFullPage(changes) ? this.#drain() : Effect.void
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

  #interrupted(message: string | undefined): void {
    for (const watch of this.watches) watch.interrupted(message)
  }
}
