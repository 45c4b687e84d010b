/**
 * The queue of one kind of calls: it decides when a batch is sent, which calls are in it, and what each caller
 * receives.
 *
 * Its state is synchronous. It changes when a caller arrives or leaves, when a response arrives, and when the alarm
 * goes off. A request runs in a fiber of its own, because it must outlive any of its callers that is interrupted.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as LastFailure from "../../backend/LastFailure.ts"
import { SendControl } from "../../backend/SendControl.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import type * as Op from "../../values/Op.ts"
import { type Calls, operationOf } from "../metrics/calls.ts"
import { errorTypeOf } from "../metrics/errorType.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import { type BatchMember, type CallResult, now } from "./batchMember.ts"
import * as batchRequest from "./batchRequest.ts"
import type { BatchKind, Footprint } from "./footprint.ts"
import { ResponseSize } from "./responseSize.ts"
import { type BatchBounds, takeBatch } from "./takeBatch.ts"

export interface BatchQueueOptions extends Omit<BatchBounds, "maxResponses"> {
  /** How many requests of a kind are in flight before further calls are queued. */
  readonly maxInFlight: number
  /** The deadline of calls that have none of their own. */
  readonly deadline: Duration.Duration
  /** Where the calls are measured; `undefined` if they are not. */
  readonly metrics: Calls | undefined
}

/** Batches concurrent calls to the backend. */
export const make = (backend: KvBackend, options: BatchQueueOptions) => {
  const newQueues = (clock: Clock.Clock): Record<BatchKind, BatchQueue> => ({
    read: new BatchQueue(backend, options, "read", clock),
    put: new BatchQueue(backend, options, "put", clock),
    delete: new BatchQueue(backend, options, "delete", clock)
  })
  // Calls made under different clocks (as in some tests) are never batched together: their timestamps are not
  // comparable.
  const known = new WeakMap<Clock.Clock, Record<BatchKind, BatchQueue>>()
  const queuesOf = (clock: Clock.Clock): Record<BatchKind, BatchQueue> => {
    const queues = known.get(clock) ?? newQueues(clock)
    known.set(clock, queues)
    return queues
  }
  return (op: Op.Op, footprint: Footprint): CallResult =>
    Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      const queue = queuesOf(clock)[footprint.kind]
      if (queue.isIdle) return queue.direct(op)
      let member: BatchMember | undefined
      const queued: CallResult = Effect.callback((resume) => {
        const deadline = fiber.getRef(Deadline.Deadline) ?? options.deadline
        const since = monotonicMillis(clock)
        const endsAt = since + Duration.toMillis(deadline)
        member = { op, footprint, resume, fiber, since, deadline, endsAt, state: "Queued" }
        queue.enter(member)
        return queue.leave(member)
      })
      return fiber.getRef(LastFailure.Current)?.during(queued, {
        get lastFailure() {
          return queue.lastFailureOf(member)
        }
      }) ?? queued
    })
}

/** The longest time that a call is queued, in milliseconds. After that it is sent even if `maxInFlight` is reached. */
const maxQueuedMillis = 50

/**
 * How many times `maxInFlight` requests may be in flight if each further one is full. Waiting longer would not make a full
 * request any cheaper per operation.
 */
const fullFactor = 4

/** A batch in flight. */
interface BatchInFlight {
  readonly members: ReadonlyArray<BatchMember>
  /** Cancels a batch that was not sent yet when one of its callers leaves. It is made again for the other callers. */
  readonly sendControl: SendControl
  /** Its request, for callers that give up before it ends. */
  readonly record: LastFailure.LastFailure
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

class BatchQueue {
  readonly #backend: KvBackend
  readonly #options: BatchQueueOptions
  readonly #kind: BatchKind
  readonly #clock: Clock.Clock
  readonly #metrics: Calls | undefined
  readonly #responseSize = new ResponseSize()
  /** The calls to be sent, in the order they arrived. Some of them may be gone. */
  #queue: Array<BatchMember> = []
  /** How many of the queued calls are not gone. */
  #queued = 0
  /** How many queued calls did not fit into the last request, because of the keys in it. */
  #blocked = 0
  /** How many calls that found the queue idle are in flight, each in its caller's own fiber. */
  #direct = 0
  readonly #batches = new Set<BatchInFlight>()
  #isFlushDue = false
  #isFlushing = false
  /** Whether the callers of a batch are being resumed. Nothing is sent until all of them have been. */
  #isResuming = false
  /** Calls that have no alarm yet, because most of them are sent before they would need one. */
  readonly #arrived: Array<BatchMember> = []
  #alarm: { readonly at: number; readonly fiber: Fiber.Fiber<unknown, unknown> } | undefined = undefined

  constructor(backend: KvBackend, options: BatchQueueOptions, kind: BatchKind, clock: Clock.Clock) {
    this.#backend = backend
    this.#options = options
    this.#kind = kind
    this.#clock = clock
    this.#metrics = options.metrics
  }

  /** Whether no call is in flight or queued. */
  get isIdle(): boolean {
    return this.#inFlight === 0 && this.#queued === 0
  }

  get #inFlight(): number {
    return this.#direct + this.#batches.size
  }

  /** Whether another request may be sent now. */
  get #hasRoom(): boolean {
    const { maxInFlight, maxOps } = this.#options
    const inFlight = this.#inFlight
    return inFlight < maxInFlight || inFlight < maxInFlight * fullFactor && this.#queued - this.#blocked >= maxOps
  }

  /** Sends a call that finds the queue idle in its caller's own fiber, and counts it as in flight. */
  direct(op: Op.Op): CallResult {
    const metrics = this.#metrics
    let hasBegun = false
    let began = 0
    const execute = Effect.suspend(() => {
      hasBegun = true
      this.#direct++
      if (metrics !== undefined) {
        metrics.inFlight++
        metrics.sent(this.#kind, 1)
        began = monotonicMillis(this.#clock)
      }
      return this.#backend.execute(op)
    })
    return Effect.onExitPrimitive(execute, (exit) => {
      if (!hasBegun) return undefined
      if (exit._tag === "Success") this.#responseSize.observe([exit.value])
      this.#direct--
      if (metrics !== undefined) {
        metrics.inFlight--
        const errorType = exit._tag === "Success" ? undefined : errorTypeOf(exit.cause)
        metrics.ended(operationOf[op._tag], monotonicMillis(this.#clock) - began, errorType)
      }
      this.#flush()
      this.#disarm()
      return undefined
    })
  }

  enter(member: BatchMember): void {
    this.#count(1)
    this.#queue.push(member)
    if (!this.#isResuming && !this.#hasRoom) {
      return this.#setAlarm(member, dueAt(member))
    }
    this.#arrived.push(member)
    if (this.#isResuming || this.#isFlushDue) return
    // There is room for another request. It is sent in the next task, so that calls made in this one are in it too.
    this.#isFlushDue = true
    member.fiber.currentDispatcher.scheduleTask(() => {
      this.#isFlushDue = false
      this.#flush()
    }, 0)
  }

  /** Removes the call of an interrupted caller. Cancels the batch if it has no callers left. */
  leave(member: BatchMember): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#measure(member, monotonicMillis(this.#clock), "Interrupted")
      this.#forget(member)
      this.#disarm()
      const batch = [...this.#batches].find((batch) => batch.members.includes(member))
      return batch?.fiber !== undefined && batch.members.every(isGone) ? Fiber.interrupt(batch.fiber) : Effect.void
    })
  }

  /** Why the member's batch has no response; `undefined` if it is not in one, or the only one. */
  lastFailureOf(member: BatchMember | undefined): KvError.Reason | undefined {
    for (const { members, record } of this.#batches) {
      if (member !== undefined && members.includes(member)) return record.lastFailure
    }
    return undefined
  }

  #forget(member: BatchMember): void {
    const wasQueued = member.state === "Queued"
    member.state = "Gone"
    if (!wasQueued) return
    this.#count(-1)
    // While the store does not respond, no batch is taken from the queue, so it must not keep every call that has gone.
    if (this.#queue.length > 2 * this.#queued + 64) this.#queue = this.#queue.filter((member) => !isGone(member))
  }

  /** `time` is now. The calls of a batch end together, so the clock is read once for all of them. */
  #resume(member: BatchMember, result: CallResult, time: number, errorType?: string): void {
    if (member.state === "Gone") return
    this.#measure(member, time, errorType)
    this.#forget(member)
    member.resume(result)
  }

  #measure(member: BatchMember, time: number, errorType: string | undefined): void {
    if (member.state === "Gone") return
    this.#metrics?.ended(operationOf[member.op._tag], time - member.since, errorType)
  }

  /** Counts calls that enter or leave the queue. */
  #count(change: number): void {
    this.#queued += change
    if (this.#metrics !== undefined) this.#metrics.queued += change
  }

  /** Sends queued calls until `maxInFlight` is reached. */
  #flush(): void {
    // A request that ends at once (as on a closed client) flushes again from within the loop, which sends the rest
    // itself.
    if (this.#isFlushing) return
    this.#isFlushing = true
    while (this.#queued > 0 && this.#hasRoom) this.#sendNext()
    this.#isFlushing = false
    if (this.#arrived.length === 0) return
    for (const member of this.#arrived.splice(0)) if (member.state === "Queued") this.#setAlarm(member, dueAt(member))
  }

  #sendNext(): void {
    const members = takeBatch(this.#queue, { ...this.#options, maxResponses: this.#responseSize.maxResponses })
    this.#count(-members.length)
    this.#blocked = members.length < this.#options.maxOps / 2 ? this.#queued : 0
    this.#send(members)
  }

  #send(members: ReadonlyArray<BatchMember>): void {
    const [first] = members
    if (first === undefined) return
    // A read may be sent even if one of its callers has gone: it changes nothing.
    const mustNotBeSent = (): boolean => first.footprint.kind !== "read" && members.some(isGone)
    const sendControl = new SendControl(mustNotBeSent)
    const batch: BatchInFlight = { members, sendControl, record: new LastFailure.LastFailure(), fiber: undefined }
    this.#batches.add(batch)
    if (this.#metrics !== undefined) {
      this.#metrics.inFlight++
      this.#metrics.sent(this.#kind, members.length)
    }
    const { context, effect } = members.length === 1
      ? batchRequest.ofOne(this.#backend, first)
      : batchRequest.ofSeveral(this.#backend, members, batch.sendControl, batch.record)
    for (const member of members) {
      member.state = "Sent"
      if (members.length > 1) this.#setAlarm(member, member.endsAt)
    }
    const fiber = batch.fiber = Effect.runForkWith(context)(effect)
    fiber.addObserver((exit) => this.#ended(batch, exit))
  }

  /**
   * Resumes the callers of a batch. A resumed caller may call again at once. The batch counts as in flight until all of
   * them have been resumed, so that their next calls are batched too.
   */
  #ended(batch: BatchInFlight, exit: Exit.Exit<ReadonlyArray<Op.Response>, KvError.KvError>): void {
    this.#isResuming = true
    const time = monotonicMillis(this.#clock)
    if (exit._tag === "Success") {
      this.#responseSize.observe(exit.value)
      batch.members.forEach((member, i) => this.#resume(member, Effect.succeed(exit.value[i]!), time))
    } else if (batchRequest.wasCancelled(batch.sendControl, exit)) {
      this.#send(batch.members.filter((member) => !isGone(member)))
    } else if (batch.members.length > 1 && batchRequest.isSplittable(exit)) {
      this.#sendHalves(batch.members.filter((member) => !isGone(member)))
    } else {
      const errorType = errorTypeOf(exit.cause)
      for (const member of batch.members) {
        this.#resume(member, exit as Exit.Failure<never, KvError.KvError>, time, errorType)
      }
    }
    this.#isResuming = false
    this.#batches.delete(batch)
    if (this.#metrics !== undefined) this.#metrics.inFlight--
    this.#flush()
    this.#disarm()
  }

  /** Sends each half on its own. Repeated halving finds the rejected operation in log2(n) steps. */
  #sendHalves(members: ReadonlyArray<BatchMember>): void {
    const half = Math.ceil(members.length / 2)
    this.#send(members.slice(0, half))
    this.#send(members.slice(half))
  }

  // ---------------------------------------------------------------------------
  // time
  // ---------------------------------------------------------------------------

  #setAlarm(member: BatchMember, at: number): void {
    if (this.#alarm !== undefined && this.#alarm.at <= at) return
    this.#alarm?.fiber.interruptUnsafe()
    const sleep = Effect.sleep(Duration.millis(Math.max(1, Math.ceil(at - now(member)))))
    // Reads the clock of the alarm's own fiber, because a member's fiber that has ended has no context any more.
    const ring = Effect.withFiber((fiber) => Effect.sync(() => this.#ring(now({ fiber }))))
    this.#alarm = { at, fiber: Effect.runForkWith(member.fiber.context)(Effect.andThen(sleep, ring)) }
  }

  /** Stops the alarm if no call needs it: a running timer keeps the process alive. */
  #disarm(): void {
    if (this.#alarm === undefined || this.#queued > 0) return
    for (const { members } of this.#batches) if (members.length > 1 && !members.every(isGone)) return
    this.#alarm.fiber.interruptUnsafe()
    this.#alarm = undefined
  }

  #ring(time: number): void {
    this.#alarm = undefined
    const isTooLate = (member: BatchMember): boolean => !isGone(member) && member.endsAt <= time
    const fail = (member: BatchMember, reason: KvError.Reason): void =>
      this.#resume(member, KvError.fail(reason), time, reason._tag)
    for (const member of this.#queue.filter(isTooLate)) fail(member, batchRequest.notSent(member))
    for (const { sendControl, fiber, members, record } of this.#shared()) {
      for (const member of members.filter(isTooLate)) {
        fail(member, batchRequest.noResponse(member, sendControl.mayHaveBeenSent, record.lastFailure))
      }
      if (members.every(isGone)) fiber?.interruptUnsafe()
    }
    const isOverdue = (member: BatchMember): boolean => !isGone(member) && member.since + maxQueuedMillis <= time
    while (this.#queue.some(isOverdue)) this.#sendNext()
    for (const member of this.#timed()) {
      this.#setAlarm(member, member.state === "Queued" ? dueAt(member) : member.endsAt)
    }
  }

  /** The members whose deadline this queue enforces. The backend enforces the deadline of a call that is sent alone. */
  #timed(): Array<BatchMember> {
    return [...this.#queue, ...this.#shared().flatMap(({ members }) => members)].filter((member) => !isGone(member))
  }

  /** The batches with more than one caller. */
  #shared(): Array<BatchInFlight> {
    return [...this.#batches].filter(({ members }) => members.length > 1)
  }
}

/** When a queued call must be sent or must fail. */
const dueAt = (member: BatchMember): number => Math.min(member.since + maxQueuedMillis, member.endsAt)

const isGone = (member: BatchMember): boolean => member.state === "Gone"
