/**
 * A candidacy: a contender that waits for its turn in the background, and whose value may change meanwhile.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { Kv } from "../../service/KvService.ts"
import type * as KvError from "../../values/KvError.ts"
import type { LockLost } from "../../values/LockError.ts"
import type { Contender } from "../queue/contender.ts"
import * as heldLock from "../queue/heldLock.ts"
import type { AcquireOptions } from "../queue/model.ts"
import * as request from "../queue/request.ts"
import type { Queue } from "../queue/rule.ts"
import * as queues from "../queue/use.ts"
import * as leadership from "./leadership.ts"
import type { Candidacy, ScopedLeadership } from "./model.ts"

/** Enters the queue, and returns once it is in it; leaves it when the scope closes. */
export const enter = Effect.fnUntraced(function*(
  kv: Kv,
  queue: Queue,
  options: Omit<AcquireOptions, "acquireTimeout">,
  scope: Scope.Closeable
): Effect.fn.Return<Candidacy, KvError.KvError | LockLost> {
  const entered = Deferred.makeUnsafe<Contender>()
  const turn = yield* queues.acquire(kv, [queue], options, (own) => Deferred.doneUnsafe(entered, Effect.succeed(own)))
    .pipe(
      // Without `acquireTimeout` there is none.
      Effect.catchTag("LockTimeout", Effect.die),
      Scope.provide(scope),
      Effect.forkIn(scope, { startImmediately: true })
    )
  // The acquisition cannot succeed before it has entered.
  const own = yield* Effect.raceFirst(Deferred.await(entered), Effect.andThen(Fiber.join(turn), Effect.never))
  const leave = Scope.close(scope, Exit.void)
  const place = leadership.placeOf(own)
  const elected = Deferred.makeUnsafe<ScopedLeadership, KvError.KvError | LockLost>()
  turn.addObserver((exit) =>
    Deferred.doneUnsafe(
      elected,
      // The scope has closed, so the loss is known.
      Exit.hasInterrupts(exit)
        ? Deferred.await(own.claim.loss)
        : Exit.map(exit, (lock) => leadership.scoped(heldLock.single(lock), leave, place))
    )
  )
  return new CandidacyOf(
    place,
    Effect.andThen(request.notWaitingForItself(kv, [queue]), Deferred.await(elected)),
    leave,
    queue.name
  )
})

/** A class because of `toJSON`: JSON has no bigints. */
class CandidacyOf implements Candidacy {
  readonly name: string
  readonly key: string
  readonly token: bigint
  readonly elected: Candidacy["elected"]
  readonly proclaim: Candidacy["proclaim"]
  readonly leave: Candidacy["leave"]

  constructor(place: leadership.Place, elected: Candidacy["elected"], leave: Candidacy["leave"], name: string) {
    this.name = name
    this.key = place.key
    this.token = place.token
    this.elected = elected
    this.proclaim = (value) => leadership.proclaim(place, value)
    this.leave = leave
  }

  toJSON(): unknown {
    return { name: this.name, key: this.key, token: `${this.token}` }
  }
}
