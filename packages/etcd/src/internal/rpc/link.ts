/**
 * The connection to one endpoint, replaced when it dies silently.
 *
 * A NAT or a firewall that forgets a flow closes nothing: requests vanish, and only time tells. So a line that owes an
 * answer and has been silent for a while is pinged. If the ping is not answered either, a second connection is opened
 * beside it. Only when that one answers a ping, while the first stays silent, does it take the first one's place. A server
 * that is merely slow answers pings; one that hangs answers on neither connection, and gets one connection at a time.
 * While anything comes in, even a part of a message, the line is not silent: over a slow link an answer to a ping waits
 * behind a large response, and to begin that again on another line would be to begin it for ever.
 *
 * Nothing here depends on how requests are carried: a `Line` can be connected, pinged and closed.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { silent } from "./errors.ts"

/** A request or a stream that is in flight on a line. */
export interface Pending {
  /** When it was sent, in milliseconds of the monotonic clock. */
  readonly since: number
  /** How long the line may be silent while this is in flight before it is pinged, in milliseconds. */
  patience: number
  /** Whether it may be sent again on another line. */
  readonly isRepeatable: boolean
  /** Ends it with a failure of these details. */
  readonly abort: (details: string) => void
}

/** What is in flight on a line, and when the server was last heard on it. */
export class Traffic {
  readonly #now: () => number
  readonly #pending = new Set<Pending>()
  readonly #listeners = new Set<() => void>()
  /** When the line has been silent for too long for requests that ended, unanswered, before that. */
  #overdueAt: number | undefined
  /** Called for each request. */
  onBegin: (() => void) | undefined
  heardAt = Number.NEGATIVE_INFINITY

  constructor(now: () => number) {
    this.#now = now
  }

  get isEmpty(): boolean {
    return this.#pending.size === 0
  }

  begin(options: Omit<Pending, "since">): Pending {
    const pending = { ...options, since: this.#now() }
    this.#pending.add(pending)
    this.onBegin?.()
    return pending
  }

  /** It has ended, by an answer (see `heard`) or without one. */
  end(pending: Pending): void {
    if (!this.#pending.delete(pending) || pending.since <= this.heardAt) return
    const at = pending.since + pending.patience
    if (this.#overdueAt === undefined || at < this.#overdueAt) this.#overdueAt = at
  }

  heard(): void {
    this.heardAt = this.#now()
    this.#overdueAt = undefined
    // A fiber that is resumed here may wait again at once: that is for the next time.
    const listeners = Array.from(this.#listeners)
    this.#listeners.clear()
    for (const listener of listeners) listener()
  }

  /** Waits until the server is heard. */
  readonly untilHeard: Effect.Effect<void> = Effect.callback((resume) => {
    const listener = (): void => resume(Effect.void)
    this.#listeners.add(listener)
    return Effect.sync(() => void this.#listeners.delete(listener))
  })

  /** The requests that ended unanswered are seen to. */
  forget(): void {
    this.#overdueAt = undefined
  }

  /**
   * When the line has been silent for too long, `undefined` if nothing is in flight or was left unanswered. Deadlines may be
   * so short that no call alone is in flight for long enough.
   */
  silentAt(): number | undefined {
    let due = this.#overdueAt
    for (const { patience, since } of this.#pending) {
      const at = Math.max(since, this.heardAt) + patience
      if (due === undefined || at < due) due = at
    }
    return due
  }

  abort(which: (pending: Pending) => boolean): void {
    for (const pending of Array.from(this.#pending)) {
      if (!which(pending)) continue
      this.#pending.delete(pending)
      pending.abort(silent)
    }
  }
}

/** One connection, or an attempt at one. */
export interface Line {
  readonly traffic: Traffic
  /** How many bytes came in over it so far: a large message arrives long before it is complete. */
  readonly received: () => number
  /** Waits until it is known whether it can be connected. */
  readonly settle: Effect.Effect<void>
  readonly isConnected: () => boolean
  /** Asks the server for any answer. False if the connection breaks. */
  readonly ping: Effect.Effect<boolean>
  /** Closes it at once, whatever is in flight. */
  readonly destroy: () => void
}

export interface Options<out L extends Line> {
  readonly now: () => number
  readonly open: () => L
  /** The line answers neither requests nor a ping. */
  readonly onSilent: Effect.Effect<void>
  /** Another line has taken its place. */
  readonly onReplaced: Effect.Effect<void>
}

/** How long a call may be unanswered on a silent line before the line is pinged, in milliseconds. */
export const patience = 250

/** How long a ping may be unanswered before a second connection is tried, in milliseconds; times `caution`. */
const grace = 250

/** How long one attempt at a second connection may take, and the pause after one that failed: doubling, in milliseconds. */
const attempt = { first: 1000, longest: 8000 }
const pause = { first: 250, longest: 8000 }

/** Middleboxes keep a silent flow for longer than this, in milliseconds. */
const staleAfter = 20_000

/** How long the requests that cannot be repeated are waited for on a line that was replaced. */
const lastChance: Duration.Input = "2 seconds"

/**
 * For how long a line is not replaced after it was seen to be busy, in milliseconds. While a large request goes out slowly,
 * the server lets it go on from time to time, and says nothing else.
 */
const busyFor = 2000

/** How many times the grace is doubled at most, and how many milliseconds without a false alarm reset it. */
const caution = { most: 4, forget: 60_000 }

export class Link<L extends Line> {
  readonly #options: Options<L>
  readonly #needed = Latch.makeUnsafe()
  readonly #doubted = Latch.makeUnsafe()
  #current: L
  /** How many bytes had come in when this was last looked at. */
  #received = 0
  /** When it was last seen that bytes came in though no message was complete. */
  #busyAt = Number.NEGATIVE_INFINITY
  #checked = Latch.makeUnsafe()
  #isDoubted = false
  /** How many wait for `awake`. */
  #waiting = 0
  #falseAlarms = 0
  #falseAlarmAt = Number.NEGATIVE_INFINITY

  constructor(options: Options<L>) {
    this.#options = options
    this.#current = this.#follow(options.open())
  }

  get current(): L {
    return this.#current
  }

  /** Pings the line now: there is reason to think that it is dead. */
  doubt(): void {
    if (!this.#current.isConnected()) return
    this.#isDoubted = true
    this.#doubted.openUnsafe()
    this.#needed.openUnsafe()
  }

  /**
   * Whether the line is connected and was silent for so long that a middlebox may have forgotten it. What must not be sent
   * twice then waits for {@link awake}.
   */
  get isStale(): boolean {
    const { heardAt } = this.#current.traffic
    return Number.isFinite(heardAt) && this.#options.now() - heardAt > staleAfter && this.#current.isConnected()
  }

  /** Waits until the line is known to work or to be broken, or another one has taken its place. */
  readonly awake: Effect.Effect<void> = Effect.suspend(() => {
    // It broke since the caller looked. Nothing would answer.
    if (!this.#current.isConnected()) return Effect.void
    this.doubt()
    this.#waiting += 1
    return Effect.ensuring(
      this.#checked.await,
      Effect.sync(() => this.#waiting -= 1)
    )
  })

  /** Looks after the line for ever. */
  readonly guard: Effect.Effect<never, never, Scope.Scope> = Effect.suspend(() =>
    Effect.forever(Effect.flatMap(this.#silent, (line) => {
      line.traffic.forget()
      return Effect.flatMap(
        this.#answers(line),
        (answers) =>
          answers
            ? Effect.sync(() => this.#release())
            : Effect.andThen(this.#options.onSilent, this.#replace(line))
      )
    }))
  )

  /** Ends the waiting for `awake`. */
  #release(): void {
    this.#checked.openUnsafe()
    this.#checked = Latch.makeUnsafe()
  }

  #follow(line: L): L {
    line.traffic.onBegin = () => this.#needed.openUnsafe()
    return line
  }

  /** Waits until the line has been silent for too long. */
  readonly #silent: Effect.Effect<L> = Effect.suspend(() => {
    const line = this.#current
    if (this.#isDoubted) {
      this.#isDoubted = false
      this.#doubted.closeUnsafe()
      return Effect.succeed(line)
    }
    const at = line.traffic.silentAt()
    if (at === undefined) {
      this.#needed.closeUnsafe()
      return Effect.andThen(this.#needed.await, this.#silent)
    }
    const wait = at - this.#options.now()
    if (wait <= 0) {
      return this.#isBusy(line) ? this.#silent : Effect.succeed(line)
    }
    this.#hasReceived(line)
    return Effect.andThen(Effect.raceFirst(Effect.sleep(Math.ceil(wait)), this.#doubted.await), this.#silent)
  })

  /**
   * Whether anything came in over the line since it was last asked. While a response arrives slowly, an answer to a ping
   * waits behind it: the line is busy, and what is in flight must not begin again on another one.
   */
  #hasReceived(line: L): boolean {
    const before = this.#received
    this.#received = line.received()
    return this.#received > before
  }

  /** Whether anything came in, though no message is complete. */
  #isBusy(line: L): boolean {
    if (!this.#hasReceived(line)) return false
    line.traffic.heard()
    this.#busyAt = this.#options.now()
    return true
  }

  /** Whether the server is heard on the line, or answers a ping on it, in time. */
  #answers(line: L): Effect.Effect<boolean> {
    if (this.#options.now() - this.#falseAlarmAt > caution.forget) this.#falseAlarms = 0
    // A line that is known to be broken connects again by itself.
    const broken = Effect.as(Effect.sleep(grace), true)
    if (!line.isConnected()) return broken
    this.#hasReceived(line)
    return Effect.raceAllFirst([
      Effect.flatMap(line.ping, (answered) => answered ? Effect.as(hear(line), true) : broken),
      Effect.as(line.traffic.untilHeard, true),
      Effect.map(Effect.sleep(grace * 2 ** this.#falseAlarms), () => this.#isBusy(line))
    ])
  }

  /** Tries other connections until one answers, or the server is heard on the line after all. */
  #replace(line: L): Effect.Effect<void, never, Scope.Scope> {
    const answered = Effect.flatMap(line.ping, (answered) => answered ? hear(line) : Effect.never)
    const heard = Effect.map(Effect.raceFirst(line.traffic.untilHeard, answered), () => this.#falseAlarm())
    return Effect.raceFirst(heard, this.#tryOthers(line, 0))
  }

  #falseAlarm(): void {
    this.#falseAlarms = Math.min(this.#falseAlarms + 1, caution.most)
    this.#falseAlarmAt = this.#options.now()
    this.#release()
  }

  #tryOthers(line: L, count: number): Effect.Effect<void, never, Scope.Scope> {
    const next = Effect.suspend(() => {
      // It was replaced at the very end of the attempt's time.
      if (this.#current !== line) return this.#options.onReplaced
      // Nothing waits: the next request will find out.
      if (line.traffic.isEmpty && this.#waiting === 0) return Effect.void
      const longest = Math.min(pause.first * 2 ** count, pause.longest)
      return Effect.andThen(Effect.sleep(longest), this.#tryOthers(line, count + 1))
    })
    const tried = Effect.acquireUseRelease(
      Effect.sync(() => this.#options.open()),
      (other) =>
        Effect.timeoutOrElse(answersOnceConnected(other), {
          duration: Math.min(attempt.first * 2 ** count, attempt.longest),
          orElse: () => Effect.succeed(false)
        }).pipe(
          Effect.flatMap((answers): Effect.Effect<Tried, never, Scope.Scope> => {
            if (!answers) return Effect.succeed("Silent")
            const wasBusy = this.#options.now() - this.#busyAt < busyFor
            if (!this.#isBusy(line) && !wasBusy) return Effect.as(this.#take(line, other), "Taken")
            this.#falseAlarm()
            return Effect.succeed("Unneeded")
          })
        ),
      (other) => Effect.sync(() => other !== this.#current && other.destroy())
    )
    return Effect.flatMap(tried, (tried) => {
      if (tried === "Unneeded") return Effect.void
      return tried === "Taken" ? this.#options.onReplaced : next
    })
  }

  /** The other line takes the place of the silent one, which is given a last chance to answer what cannot be repeated. */
  #take(line: L, other: L): Effect.Effect<void, never, Scope.Scope> {
    return Effect.uninterruptible(Effect.suspend(() => {
      this.#current = this.#follow(other)
      this.#received = 0
      this.#busyAt = Number.NEGATIVE_INFINITY
      this.#release()
      other.traffic.heard()
      line.traffic.onBegin = undefined
      line.traffic.abort((pending) => pending.isRepeatable)
      const end = Effect.sync(() => {
        line.traffic.abort(() => true)
        line.destroy()
      })
      return Effect.asVoid(Effect.forkScoped(Effect.ensuring(Effect.interruptible(untilDone(line)), end)))
    }))
  }
}

/** What became of an attempt at another connection. */
type Tried = "Silent" | "Taken" | "Unneeded"

const hear = (line: Line): Effect.Effect<void> => Effect.sync(() => line.traffic.heard())

const answersOnceConnected = (line: Line): Effect.Effect<boolean> =>
  Effect.flatMap(line.settle, () => line.isConnected() ? line.ping : Effect.succeed(false))

/** Waits until nothing is in flight on a line that was replaced; if it stays silent, no longer than for its last chance. */
const untilDone = (line: Line): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (line.traffic.isEmpty) return Effect.void
    const before = line.received()
    return Effect.flatMap(
      Effect.raceFirst(
        Effect.as(line.traffic.untilHeard, true),
        Effect.map(Effect.sleep(lastChance), () => line.received() > before)
      ),
      (isHeard) => isHeard ? untilDone(line) : Effect.void
    )
  })
