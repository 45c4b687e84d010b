/**
 * The view of a semaphore's contenders that all waiters of a client share. It admits each of them when the weights ahead
 * leave room, from one watch and without reads.
 *
 * It exists while there are waiters. A release costs one event for each client with waiters, and wakes only the waiters that
 * it admits.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Kv } from "../../service/KvService.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import type * as Watch from "../../values/Watch.ts"
import * as internals from "../kv/internals.ts"
import * as contenders from "../queue/contenders.ts"
import * as rule from "../queue/rule.ts"
import { isPassing, retryInterval } from "../session/awaitDeletion.ts"
import * as permitKeys from "./permitKeys.ts"

/** A waiter, whose key was put. */
export interface Request {
  readonly place: rule.Place
  readonly weight: number
  /** The number of permits at the revision at which the key was put. */
  readonly permits: number
}

/**
 * Waits until the contender is admitted, gone or refused: then it is larger than the semaphore.
 */
export const awaitTurn = (
  kv: Kv,
  name: string,
  request: Request,
  entered: rule.Standing,
  observer: rule.Observer
): Effect.Effect<rule.Ended, KvError.KvError> =>
  Effect.acquireUseRelease(
    acquire(kv, name),
    (view) =>
      Effect.gen(function*() {
        let standing = entered
        const waiter = view.add(request, standing, observer)
        yield* observer.onStanding(standing)
        while (!rule.isEnded(standing)) {
          standing = yield* view.next(waiter)
          yield* observer.onStanding(standing)
        }
        return standing
      }),
    (view) =>
      Effect.sync(() => {
        view.remove(request.place.key)
        release(kv, name, view)
      })
  )

/** The views by the backend of their `Kv`, because a view's keys are those of one namespace. */
const views = new WeakMap<KvBackend, Map<string, PermitView>>()

const acquire = (kv: Kv, name: string): Effect.Effect<PermitView> =>
  Effect.suspend(() => {
    const { origin: { raw }, sessions, unfenced } = internals.of(kv)
    const ofBackend = views.get(raw) ?? new Map<string, PermitView>()
    views.set(raw, ofBackend)
    const known = ofBackend.get(name)
    if (known !== undefined && known.isFollowing) {
      known.users++
      return Effect.succeed(known)
    }
    const view = new PermitView(name)
    ofBackend.set(name, view)
    return Effect.map(sessions.forkShared(view.follow(unfenced)), (fiber) => {
      view.fiber = fiber
      return view
    })
  })

const release = (kv: Kv, name: string, view: PermitView): void => {
  if (--view.users > 0) return
  const ofBackend = views.get(internals.of(kv).origin.raw)
  if (ofBackend?.get(name) === view) ofBackend.delete(name)
  view.fiber?.interruptUnsafe()
}

interface Contender {
  readonly createRevision: bigint
  readonly weight: number
  readonly hasLease: boolean
}

interface Waiter extends Request {
  readonly observer: rule.Observer
  /** How many loads of the view had begun when it was added. A later load must contain its key. */
  readonly loads: number
  /** The key without a lease that was reported to be ahead; `""` if none was. `undefined` before the first report. */
  reported: string | undefined
  /** The standing that was not read yet. */
  pending: Effect.Effect<rule.Standing, KvError.KvError> | undefined
  resume: ((standing: Effect.Effect<rule.Standing, KvError.KvError>) => void) | undefined
  /** Why its key may be missing. */
  replaced: KvError.KvError | undefined
  isSettled: boolean
}

class PermitView {
  users = 1
  isFollowing = true
  fiber: Fiber.Fiber<void> | undefined
  readonly #name: string
  readonly #waiters = new Map<string, Waiter>()
  /** In the order of the queue: a `Map` keeps the order of insertion, and new keys have the largest revision. */
  #contenders = new Map<string, Contender>()
  /** The number of permits, and the revision at which it was set. */
  #limit: { readonly permits: number; readonly revision: bigint } | undefined
  #watcher: Watch.Watcher | undefined
  #revision = -1n
  #loads = 0
  #withoutLease = 0
  /** The largest number of permits that a waiter has entered with: a bound, so it need not shrink. */
  #largest = 0
  /** Whether a waiter has no standing yet. */
  #isUnclear = false

  constructor(name: string) {
    this.#name = name
  }

  add(request: Request, entered: rule.Standing, observer: rule.Observer): Waiter {
    if (this.#watcher !== undefined) observer.onWatch?.(this.#watcher)
    const waiter: Waiter = {
      ...request,
      observer,
      loads: this.#loads,
      reported: entered._tag === "Behind" ? (entered.isPermanent ? entered.predecessor : "") : undefined,
      pending: undefined,
      resume: undefined,
      replaced: undefined,
      isSettled: false
    }
    this.#waiters.set(request.place.key, waiter)
    if (request.permits > this.#largest) this.#largest = request.permits
    this.#isUnclear ||= waiter.reported === undefined
    if (this.#revision >= request.place.createRevision) {
      if (this.#isListed(waiter)) this.#report()
      else this.#settle(waiter, rule.gone)
    }
    this.#admit()
    return waiter
  }

  remove(key: string): void {
    this.#waiters.delete(key)
  }

  /** The next standing that differs from the last one. */
  next(waiter: Waiter): Effect.Effect<rule.Standing, KvError.KvError> {
    return Effect.callback((resume) => {
      if (waiter.pending !== undefined) {
        const { pending } = waiter
        waiter.pending = undefined
        return resume(pending)
      }
      waiter.resume = resume
      return Effect.sync(() => {
        waiter.resume = undefined
      })
    })
  }

  /** Keeps the view current until it is interrupted. If it cannot be, all waiters fail. */
  follow(backend: KvBackend): Effect.Effect<void> {
    const attempt = Effect.scoped(Effect.gen({ self: this }, function*() {
      const load = ++this.#loads
      const range = KeyRange.prefix(permitKeys.prefixOf(this.#name))
      const watcher = this.#watcher = yield* backend.watch({ range })
      for (const { observer } of this.#waiters.values()) observer.onWatch?.(watcher)
      this.#load(yield* execute(backend, Op.range(range)), load)
      while (true) this.#apply(yield* watcher.take)
    }))
    const untilFailed: Effect.Effect<void> = Effect.catch(attempt, (error) => {
      const { reason } = error
      if (!isPassing(error)) {
        this.isFollowing = false
        for (const waiter of this.#waiters.values()) {
          if (!waiter.isSettled) this.#tell(waiter, Effect.fail(error))
        }
        return Effect.void
      }
      for (const waiter of this.#waiters.values()) {
        if (reason._tag === "StoreReplaced") waiter.replaced = error
        waiter.observer.onFailure(reason)
        // Reported again after the outage, so that the waiter learns that it has passed.
        waiter.reported = undefined
      }
      this.#isUnclear = true
      return Effect.delay(untilFailed, retryInterval)
    })
    return untilFailed
  }

  #load(response: Op.RangeResponse, load: number): void {
    this.#contenders = new Map()
    this.#withoutLease = 0
    this.#limit = undefined
    for (const entry of response.entries.toSorted((a, b) => contenders.isBefore(a, b) ? -1 : 1)) this.#put(entry)
    this.#revision = response.revision
    for (const waiter of this.#waiters.values()) {
      const mustBeListed = waiter.loads < load || waiter.place.createRevision <= response.revision
      if (mustBeListed && !this.#isListed(waiter)) this.#settle(waiter, rule.gone)
    }
    this.#refuse()
    this.#report()
    this.#admit()
  }

  #apply(revisions: ReadonlyArray<Watch.Revision>): void {
    let isResized = false
    for (const { events, revision } of revisions) {
      if (revision <= this.#revision) continue
      this.#revision = revision
      const puts: Array<Entry> = []
      for (const event of events) {
        if (event._tag === "Put") puts.push(event.entry)
        else this.#delete(event.key)
        if (event.key === permitKeys.limitOf(this.#name)) isResized = true
      }
      if (puts.length > 1) puts.sort((a, b) => contenders.isBefore(a, b) ? -1 : 1)
      for (const entry of puts) this.#put(entry)
    }
    if (isResized) this.#refuse()
    if (this.#withoutLease > 0 || this.#isUnclear) this.#report()
    this.#admit()
  }

  #put(entry: Entry): void {
    if (entry.key === permitKeys.limitOf(this.#name)) {
      const permits = permitKeys.countOf(entry)
      if (permits !== undefined) this.#limit = { permits, revision: entry.modRevision }
      return
    }
    if (!permitKeys.isContender(this.#name, entry)) return
    const known = this.#contenders.get(entry.key)
    if (known !== undefined && !known.hasLease) this.#withoutLease--
    const hasLease = entry.lease._tag === "Some"
    if (!hasLease) this.#withoutLease++
    if (known !== undefined && known.createRevision !== entry.createRevision) this.#contenders.delete(entry.key)
    const { weight } = permitKeys.permitsOf(entry)
    this.#contenders.set(entry.key, { createRevision: entry.createRevision, weight, hasLease })
  }

  #delete(key: string): void {
    const known = this.#contenders.get(key)
    if (known === undefined) return
    if (!known.hasLease) this.#withoutLease--
    this.#contenders.delete(key)
    const waiter = this.#waiters.get(key)
    if (waiter?.place.createRevision === known.createRevision) this.#settle(waiter, rule.gone)
  }

  #isListed({ place }: Waiter): boolean {
    return this.#contenders.get(place.key)?.createRevision === place.createRevision
  }

  /** The number of permits, at the view's revision, for a contender that entered when it was `permits`. */
  #permitsFor({ permits, place }: Waiter): number {
    return this.#limit !== undefined && this.#limit.revision > place.createRevision
      ? this.#limit.permits
      : permits
  }

  /** Admits every waiter that the weights ahead leave room for. Looks only at keys that can be holders'. */
  #admit(): void {
    let ahead = 0
    const limit = Math.max(this.#largest, this.#limit?.permits ?? 0)
    for (const [key, { createRevision, weight }] of this.#contenders) {
      if (ahead >= limit) return
      const waiter = this.#waiters.get(key)
      if (waiter?.place.createRevision === createRevision && ahead + waiter.weight <= this.#permitsFor(waiter)) {
        this.#settle(waiter, rule.admitted)
      }
      ahead += weight
    }
  }

  /** Refuses every waiter that is larger than the semaphore. */
  #refuse(): void {
    for (const waiter of this.#waiters.values()) {
      if (!waiter.isSettled && this.#isListed(waiter) && waiter.weight > this.#permitsFor(waiter)) {
        this.#tell(waiter, succeed(rule.refused))
      }
    }
  }

  /** Reports a key ahead that has no lease, and that a waiter whose standing was unclear is behind others. */
  #report(): void {
    let last = ""
    let blocker: string | undefined
    let ahead = 0
    for (const [key, { createRevision, hasLease, weight }] of this.#contenders) {
      const waiter = this.#waiters.get(key)
      if (
        waiter?.place.createRevision === createRevision && !waiter.isSettled &&
        ahead + waiter.weight > this.#permitsFor(waiter) && waiter.reported !== (blocker ?? "")
      ) {
        waiter.reported = blocker ?? ""
        this.#tell(
          waiter,
          succeed({ _tag: "Behind", predecessor: blocker ?? last, isPermanent: blocker !== undefined })
        )
      }
      if (!hasLease) blocker ??= key
      last = key
      ahead += weight
    }
    this.#isUnclear = false
    for (const { isSettled, reported } of this.#waiters.values()) {
      this.#isUnclear ||= reported === undefined && !isSettled
    }
  }

  #settle(waiter: Waiter, standing: rule.Ended): void {
    if (waiter.isSettled) return
    waiter.isSettled = true
    this.#tell(
      waiter,
      standing._tag === "Gone" && waiter.replaced !== undefined ? Effect.fail(waiter.replaced) : succeed(standing)
    )
  }

  #tell(waiter: Waiter, standing: Effect.Effect<rule.Standing, KvError.KvError>): void {
    const { resume } = waiter
    waiter.resume = undefined
    if (resume === undefined) waiter.pending = standing
    else resume(standing)
  }
}

const succeed = (standing: rule.Standing): Effect.Effect<rule.Standing> => Effect.succeed(standing)
