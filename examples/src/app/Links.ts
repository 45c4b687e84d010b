/**
 * The repository of links: a typed collection, captured in a layer. Who uses it knows nothing of the store.
 */
import { KvCollection, type KvError } from "@effect-kv/core"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Api from "./Api.ts"
import { orUnavailable } from "./StoreFailure.ts"

type Link = typeof Api.Link.Type

export class Links extends Context.Service<Links, {
  readonly find: (code: string) => Effect.Effect<Link, Api.LinkNotFound | Api.StoreUnavailable>
  /** Never replaces a link, whichever instance made it. */
  readonly create: (code: string, link: Link) => Effect.Effect<void, Api.LinkTaken | Api.StoreUnavailable>
  readonly list: Effect.Effect<Record<string, Link>, Api.StoreUnavailable>
  readonly count: Effect.Effect<number, KvError.KvError>
}>()("examples/app/Links") {
  static readonly layer = Layer.effect(
    Links,
    Effect.gen(function*() {
      const links = yield* KvCollection.make("links/", { key: Schema.String, value: Api.Link })
      const items = Effect.map(links.list, (all) => all.filter(Result.isSuccess).map(({ success }) => success))
      return Links.of({
        find: Effect.fn("Links.find")(function*(code) {
          const link = yield* orUnavailable(links.get(code))
          return yield* Option.isSome(link) ? Effect.succeed(link.value) : new Api.LinkNotFound({ code })
        }),
        create: Effect.fn("Links.create")(function*(code, link) {
          const created = yield* orUnavailable(
            links.updateSome(code, Option.match({ onNone: () => Option.some(link), onSome: () => Option.none() }))
          )
          if (Option.isNone(created)) return yield* new Api.LinkTaken({ code })
        }),
        list: Effect.map(orUnavailable(items), (all) => Object.fromEntries(all.map(({ key, value }) => [key, value]))),
        count: Effect.map(links.list, (all) => all.length)
      })
    })
  )
}
