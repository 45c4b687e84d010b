/**
 * Where calls wait for company: who is sent when, with whom, and who hears what.
 *
 * Synchronous state, changed by callers that come and go, by answers, and by one alarm. A request runs in a fiber of its
 * own, since it must outlive whoever of its callers is interrupted.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { KvBackend } from "../../backend/KvBackend.ts"
import { SendControl } from "../../backend/SendControl.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import type * as Op from "../../values/Op.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import { type Answer, type Member, now } from "./batchMember.ts"
import * as batchRequest from "./batchRequest.ts"
import type { Footprint, Lane } from "./footprint.ts"
import { ResponseSize } from "./responseSize.ts"
import { type Bounds, takeBatch } from "./takeBatch.ts"

export interface BatchQueueOptions extends Omit<Bounds, "maxAnswers"> {
  /** Requests of a lane under way before others wait. */
  readonly maxInFlight: number
  /** Of calls that have none of their own. */
  readonly deadline: Duration.Duration
}

/** Batches what comes together. */
export const make = (backend: KvBackend, options: BatchQueueOptions) => {
  const newLanes = (): Record<Lane, BatchQueue> => ({
    read: new BatchQueue(backend, options),
    put: new BatchQueue(backend, options),
    delete: new BatchQueue(backend, options)
  })
  // Those who live by another clock, as some in tests do, are not batched together: their times cannot be compared.
  const known = new WeakMap<Clock.Clock, Record<Lane, BatchQueue>>()
  const lanesOf = (clock: Clock.Clock): Record<Lane, BatchQueue> => {
    const lanes = known.get(clock) ?? newLanes()
    known.set(clock, lanes)
    return lanes
  }
  return (op: Op.Op, footprint: Footprint): Answer =>
    Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      const queue = lanesOf(clock)[footprint.lane]
      if (queue.isIdle) return queue.direct(op)
      return Effect.callback((resume) => {
        const deadline = fiber.getRef(Deadline.Deadline) ?? options.deadline
        const since = monotonicMillis(clock)
        const endsAt = since + Duration.toMillis(deadline)
        const member: Member = { op, footprint, resume, fiber, since, deadline, endsAt, state: "Waiting" }
        queue.enter(member)
        return queue.leave(member)
      })
    })
}

/** How long somebody waits for company at most, in milliseconds: a store that answers slowly is asked for more at once. */
const patience = 50

/**
 * How many times `maxInFlight` may be in flight if each further request is full: its own cost is nothing beside that of its
 * operations, so that there is no reason for them to wait.
 */
const fullFactor = 4

/** A request under way. */
interface Batch {
  readonly members: ReadonlyArray<Member>
  /** Without those who have gone: while it was not sent, it is called off and made again for the others. */
  readonly sendControl: SendControl
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

class BatchQueue {
  readonly #backend: KvBackend
  readonly #options: BatchQueueOptions
  readonly #responseSize = new ResponseSize()
  /** Those who wait to be sent, the first at the front; some of them may be gone. */
  #line: Array<Member> = []
  /** How many of those in line are not gone. */
  #waiting = 0
  /** How many of those that wait did not fit into the last request because of the keys in it. */
  #blocked = 0
  /** How many calls are under way that found nothing else so, in their callers' own fibers. */
  #direct = 0
  readonly #batches = new Set<Batch>()
  #isFlushDue = false
  #isFlushing = false
  /** Whether answers are being handed on: until all have been, nothing is sent. */
  #isAnswering = false
  /** Those who are likely to leave before they would need an alarm. */
  readonly #arrived: Array<Member> = []
  #alarm: { readonly at: number; readonly fiber: Fiber.Fiber<unknown, unknown> } | undefined = undefined

  constructor(backend: KvBackend, options: BatchQueueOptions) {
    this.#backend = backend
    this.#options = options
  }

  /** Whether nothing is under way and nobody waits. */
  get isIdle(): boolean {
    return this.#inFlight === 0 && this.#waiting === 0
  }

  get #inFlight(): number {
    return this.#direct + this.#batches.size
  }

  /** Whether another request may be sent now. */
  get #hasRoom(): boolean {
    const { maxInFlight, maxOps } = this.#options
    const inFlight = this.#inFlight
    return inFlight < maxInFlight || inFlight < maxInFlight * fullFactor && this.#waiting - this.#blocked >= maxOps
  }

  /** For a caller that finds it idle: as if nothing were in between, but that others see it under way. */
  direct(op: Op.Op): Answer {
    let hasBegun = false
    const execute = Effect.suspend(() => {
      hasBegun = true
      this.#direct++
      return this.#backend.execute(op)
    })
    return Effect.onExitPrimitive(execute, (exit) => {
      if (!hasBegun) return undefined
      if (exit._tag === "Success") this.#responseSize.observe([exit.value])
      this.#direct--
      this.#flush()
      this.#disarm()
      return undefined
    })
  }

  enter(member: Member): void {
    this.#waiting++
    this.#line.push(member)
    if (!this.#isAnswering && !this.#hasRoom) {
      return this.#setAlarm(member, dueAt(member))
    }
    this.#arrived.push(member)
    if (this.#isAnswering || this.#isFlushDue) return
    // There is room for another request: it leaves when everybody who is about to call has done so.
    this.#isFlushDue = true
    member.fiber.currentDispatcher.scheduleTask(() => {
      this.#isFlushDue = false
      this.#flush()
    }, 0)
  }

  /** For a caller that is interrupted. A request that nobody waits for any more is cancelled. */
  leave(member: Member): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#forget(member)
      this.#disarm()
      const batch = [...this.#batches].find((batch) => batch.members.includes(member))
      return batch?.fiber !== undefined && batch.members.every(isGone) ? Fiber.interrupt(batch.fiber) : Effect.void
    })
  }

  #forget(member: Member): void {
    const hasWaited = member.state === "Waiting"
    member.state = "Gone"
    if (!hasWaited) return
    this.#waiting--
    // Where nothing is answered nobody takes them out of the line, however many come and go.
    if (this.#line.length > 2 * this.#waiting + 64) this.#line = this.#line.filter((member) => !isGone(member))
  }

  #answer(member: Member, answer: Answer): void {
    if (member.state === "Gone") return
    this.#forget(member)
    member.resume(answer)
  }

  /** Sends what waits, as far as requests may be under way. */
  #flush(): void {
    // What is answered at once, as by a client that was closed, comes here again from within: it is for the loop to go on.
    if (this.#isFlushing) return
    this.#isFlushing = true
    while (this.#waiting > 0 && this.#hasRoom) this.#sendNext()
    this.#isFlushing = false
    if (this.#arrived.length === 0) return
    for (const member of this.#arrived.splice(0)) if (member.state === "Waiting") this.#setAlarm(member, dueAt(member))
  }

  #sendNext(): void {
    const members = takeBatch(this.#line, { ...this.#options, maxAnswers: this.#responseSize.maxAnswers })
    this.#waiting -= members.length
    this.#blocked = members.length < this.#options.maxOps / 2 ? this.#waiting : 0
    this.#send(members)
  }

  #send(members: ReadonlyArray<Member>): void {
    const [first] = members
    if (first === undefined) return
    // A read that somebody gave up does no harm.
    const mustNotBeSent = (): boolean => first.footprint.lane !== "read" && members.some(isGone)
    const batch: Batch = { members, sendControl: new SendControl(mustNotBeSent), fiber: undefined }
    this.#batches.add(batch)
    const { context, effect } = members.length === 1
      ? batchRequest.alone(this.#backend, first)
      : batchRequest.together(this.#backend, members, batch.sendControl)
    for (const member of members) {
      member.state = "Sent"
      if (members.length > 1) this.#setAlarm(member, member.endsAt)
    }
    const fiber = batch.fiber = Effect.runForkWith(context)(effect)
    fiber.addObserver((exit) => this.#answered(batch, exit))
  }

  /**
   * Hands the answers on. Whoever is answered may call again at once; until all have been, the request counts as under way,
   * so that what they ask next leaves together too.
   */
  #answered(batch: Batch, exit: Exit.Exit<ReadonlyArray<Op.Response>, KvError.KvError>): void {
    this.#isAnswering = true
    if (exit._tag === "Success") {
      this.#responseSize.observe(exit.value)
      batch.members.forEach((member, i) => this.#answer(member, Effect.succeed(exit.value[i]!)))
    } else if (batchRequest.wasCancelled(batch.sendControl, exit)) {
      this.#send(batch.members.filter((member) => !isGone(member)))
    } else if (batch.members.length > 1 && batchRequest.isFaultOfOne(exit)) {
      this.#sendHalves(batch.members.filter((member) => !isGone(member)))
    } else {
      for (const member of batch.members) this.#answer(member, exit as Exit.Failure<never, KvError.KvError>)
    }
    this.#isAnswering = false
    this.#batches.delete(batch)
    this.#flush()
    this.#disarm()
  }

  /** Finds the one that all were refused for, in as many steps as the number has bits. */
  #sendHalves(members: ReadonlyArray<Member>): void {
    const half = Math.ceil(members.length / 2)
    this.#send(members.slice(0, half))
    this.#send(members.slice(half))
  }

  // ---------------------------------------------------------------------------
  // time
  // ---------------------------------------------------------------------------

  #setAlarm(member: Member, at: number): void {
    if (this.#alarm !== undefined && this.#alarm.at <= at) return
    this.#alarm?.fiber.interruptUnsafe()
    const sleep = Effect.sleep(Duration.millis(Math.max(1, Math.ceil(at - now(member)))))
    // By the clock of the alarm's own fiber: the member's may have ended by then, and one that has ended has none of its own.
    const ring = Effect.withFiber((fiber) => Effect.sync(() => this.#ring(now({ fiber }))))
    this.#alarm = { at, fiber: Effect.runForkWith(member.fiber.context)(Effect.andThen(sleep, ring)) }
  }

  /** A timer that nobody needs would keep the process alive. */
  #disarm(): void {
    if (this.#alarm === undefined || this.#waiting > 0) return
    for (const { members } of this.#batches) if (members.length > 1 && !members.every(isGone)) return
    this.#alarm.fiber.interruptUnsafe()
    this.#alarm = undefined
  }

  #ring(time: number): void {
    this.#alarm = undefined
    const isOver = (member: Member): boolean => !isGone(member) && member.endsAt <= time
    for (const member of this.#line.filter(isOver)) this.#answer(member, KvError.fail(batchRequest.neverSent(member)))
    for (const { sendControl, fiber, members } of this.#shared()) {
      for (const member of members.filter(isOver)) {
        this.#answer(member, KvError.fail(batchRequest.noAnswer(member, sendControl.mayHaveBeenSent)))
      }
      if (members.every(isGone)) fiber?.interruptUnsafe()
    }
    const isOverdue = (member: Member): boolean => !isGone(member) && member.since + patience <= time
    while (this.#line.some(isOverdue)) this.#sendNext()
    for (const member of this.#timed()) {
      this.#setAlarm(member, member.state === "Waiting" ? dueAt(member) : member.endsAt)
    }
  }

  /** Those whose time is looked after here. Who is sent alone has the backend for that. */
  #timed(): Array<Member> {
    return [...this.#line, ...this.#shared().flatMap(({ members }) => members)].filter((member) => !isGone(member))
  }

  #shared(): Array<Batch> {
    return [...this.#batches].filter(({ members }) => members.length > 1)
  }
}

/** When something has to be done about one that waits. */
const dueAt = (member: Member): number => Math.min(member.since + patience, member.endsAt)

const isGone = (member: Member): boolean => member.state === "Gone"
