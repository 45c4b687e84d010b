/**
 * The server in memory: data, leases, watches and time. Every function is one synchronous step, so an interruption can
 * never leave an operation half executed.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type { WatchRequest } from "@effect-kv/core/Watch"
import * as Option from "effect/Option"
import { Leases, type LeaseState } from "./leases.ts"
import { rejection, type RequestLimits } from "./limits.ts"
import { Mvcc, type Retention } from "./mvcc.ts"
import { StoreWatch } from "./storeWatch.ts"
import { Alarm, type Time } from "./time.ts"
import { apply, deleteKeys, leaseNotFound, type StoreData } from "./transaction.ts"
import { WatchIndex } from "./watchIndex.ts"

export interface StoreOptions {
  readonly retention: Retention
  readonly limits: RequestLimits
  /** In seconds. */
  readonly minLeaseTtl: number
}

export class Store implements StoreData {
  readonly mvcc: Mvcc
  readonly leases = new Leases()
  readonly watches = new WatchIndex()
  readonly #options: StoreOptions
  readonly #alarm = new Alarm(() => {
    const now = this.#time.now()
    this.#endLeases((deadline) => deadline <= now)
    this.#setAlarm()
  })
  #time: Time
  #clients = 0
  #watchIds = 0

  constructor(options: StoreOptions, time: Time) {
    this.mvcc = new Mvcc(options.retention)
    this.#options = options
    this.#time = time
  }

  get clients(): number {
    return this.#clients
  }

  execute(op: Op.Op): Op.Response<Op.Op> | KvError.KvError {
    const rejected = rejection(this.#options.limits, op)
    if (rejected !== undefined) return rejected
    this.expireLeases()
    const position = this.mvcc.log.end
    const response = apply(this, op)
    this.#notify(position)
    return response
  }

  watch(request: WatchRequest): StoreWatch | KvError.KvError {
    const rejected = rejection(this.#options.limits, Op.range(request.range))
    if (rejected !== undefined) return rejected
    this.expireLeases()
    const watch = new StoreWatch(this.#watchIds++, this.mvcc, request)
    this.watches.add(watch)
    return watch
  }

  unwatch(watch: StoreWatch): void {
    this.watches.remove(watch)
  }

  grant(id: bigint | undefined, seconds: number): LeaseState | KvError.KvError {
    this.expireLeases()
    if (id !== undefined && this.leases.has(id)) {
      return KvError.make(
        new KvError.LeaseExists({
          message: `the lease ${id.toString(16)} exists already; leave the id out to have one chosen`
        })
      )
    }
    const lease = this.leases.grant(id, Math.max(seconds, this.#options.minLeaseTtl), this.#time.now())
    this.#setAlarm()
    return lease
  }

  /** The lease, if it is alive now. */
  lease(id: bigint): LeaseState | KvError.KvError {
    this.expireLeases()
    return this.leases.get(id) ?? leaseNotFound(id)
  }

  keepAlive(lease: LeaseState): void {
    this.leases.keepAlive(lease, this.#time.now())
  }

  revoke(lease: LeaseState): void {
    this.#end(lease)
    this.#setAlarm()
  }

  /** The seconds that a lease has left. */
  remaining(lease: LeaseState): number {
    return Math.max(0, lease.deadline - this.#time.now()) / 1000
  }

  compact(revision: bigint): KvError.KvError | undefined {
    this.expireLeases()
    if (revision > this.mvcc.revisionId) {
      return KvError.make(
        new KvError.FutureRevision({
          message: `revision ${revision} has not happened yet and cannot be compacted; the store is at ` +
            `${this.mvcc.revisionId}`
        })
      )
    }
    if (revision <= this.mvcc.compacted) {
      return KvError.make(new KvError.Compacted({ compactRevision: Option.some(BigInt(this.mvcc.compacted)) }))
    }
    this.mvcc.compact(Number(revision))
    return undefined
  }

  /**
   * Ends the leases whose deadline has passed. Every function calls it first, so an expired lease is never seen alive.
   *
   * At the very instant of its deadline a lease is still alive here. Only the alarm ends it then, after all fibers that
   * sleep until the same instant. So a client with the same clock learns of the end before the store deletes its keys.
   */
  expireLeases(): void {
    if (this.leases.earliest === Number.POSITIVE_INFINITY) return
    const now = this.#time.now()
    if (this.leases.earliest >= now) return
    this.#endLeases((deadline) => deadline < now)
    this.#setAlarm()
  }

  /**
   * Opens a client.
   *
   * While a client is open, a timer runs until the next lease ends, because its watches must see the end. Without a
   * client there is no timer, so a store that outlives its clients keeps no process alive. No client can notice the
   * difference, because every function first ends the expired leases.
   */
  open(): void {
    this.#clients++
    this.#setAlarm()
  }

  close(): void {
    this.#clients--
    this.#setAlarm()
  }

  /** Switches to another clock unless a client is open. Leases keep the time that they have left. */
  adopt(time: Time): void {
    if (this.#clients > 0 || time.clock === this.#time.clock) return
    this.expireLeases()
    this.leases.shift(time.now() - this.#time.now())
    this.#time = time
  }

  /** Ends leases in the order of their deadlines, each in a revision of its own. */
  #endLeases(isOver: (deadline: number) => boolean): void {
    for (let lease = this.leases.first; lease !== undefined && isOver(lease.deadline); lease = this.leases.first) {
      this.#end(lease)
    }
  }

  #end(lease: LeaseState): void {
    const position = this.mvcc.log.end
    deleteKeys(this, this.leases.end(lease))
    this.#notify(position)
  }

  #notify(from: number): void {
    if (this.watches.size === 0) return
    const log = this.mvcc.log
    for (let position = from; position < log.end; position++) this.watches.notify(log.at(position), position)
  }

  #setAlarm(): void {
    const at = this.leases.earliest
    if (this.#clients === 0 || at === Number.POSITIVE_INFINITY) this.#alarm.cancel()
    else this.#alarm.set(this.#time, at)
  }
}
