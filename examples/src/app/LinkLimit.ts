/**
 * How many links may be created in a minute, by all instances together.
 */
import { KvRateLimiter } from "@effect-kv/persistence"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Api from "./Api.ts"
import { Settings } from "./Settings.ts"

export class LinkLimit extends Context.Service<LinkLimit, {
  readonly take: Effect.Effect<void, Api.TooManyLinks | Api.StoreUnavailable>
}>()("examples/app/LinkLimit") {
  static readonly layer = Layer.effect(
    LinkLimit,
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.RateLimiter
      const settings = yield* Settings
      return LinkLimit.of({
        take: Effect.gen(function*() {
          const { linksPerMinute: limit } = yield* settings.get
          // Instances that know a new setting and those that do not yet must not count in one window.
          yield* limiter.consume({ key: `links-${limit}`, limit, window: "1 minute" })
        }).pipe(
          Effect.catchTag("RateLimiterError", ({ reason }) =>
            Effect.fail(
              reason._tag === "RateLimitExceeded"
                ? new Api.TooManyLinks({ retryAfterSeconds: Math.ceil(Duration.toSeconds(reason.retryAfter)) })
                : new Api.StoreUnavailable({ message: reason.message, outcome: "NotApplied" })
            ))
        )
      })
    })
  ).pipe(Layer.provide(KvRateLimiter.layer({ prefix: "limits/" })))
}
