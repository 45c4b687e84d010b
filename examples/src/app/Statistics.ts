/**
 * Work that one instance does for all: the leader counts the links every second.
 *
 * Its writes are fenced. A leader that was paused, and wakes after another took over, cannot overwrite newer numbers.
 */
import { Election, Kv, KvCollection, type KvError } from "@effect-kv/core"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Api from "./Api.ts"
import { Instance } from "./Instance.ts"
import { Links } from "./Links.ts"

export class Statistics extends Context.Service<Statistics, {
  readonly newest: Effect.Effect<
    Option.Option<typeof Api.Statistics.Type>,
    KvError.KvError | KvCollection.DecodeError | KvCollection.EncodeError
  >
  readonly leader: Effect.Effect<Option.Option<string>, KvError.KvError>
}>()("examples/app/Statistics") {
  static readonly layer = Layer.effect(
    Statistics,
    Effect.gen(function*() {
      const { name, ttl } = yield* Instance
      const kv = yield* Kv.Kv
      const links = yield* Links
      const statistics = yield* KvCollection.make("statistics/", { key: Schema.String, value: Api.Statistics })
      const count = Effect.flatMap(links.count, (count) => statistics.put("newest", { links: count, countedBy: name }))

      yield* Election.singleton(
        "statistics-leader",
        () => Effect.repeat(count, Schedule.spaced("1 second")),
        { value: name, ttl }
      ).pipe(
        Effect.tapError((error) => Effect.logError("links are not counted any more", error)),
        Effect.forkScoped
      )

      return Statistics.of({
        newest: statistics.get("newest"),
        leader: Election.leader("statistics-leader").pipe(
          Effect.map(Option.map(({ value }) => value)),
          Effect.provideService(Kv.Kv, kv)
        )
      })
    })
  )
}
