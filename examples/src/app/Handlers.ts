/**
 * What the service does for each request of its API.
 */
import { Kv, KvHealth } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import { HttpApiBuilder } from "effect/http-api"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Api from "./Api.ts"
import { Instance } from "./Instance.ts"
import { Instances } from "./Instances.ts"
import { LinkLimit } from "./LinkLimit.ts"
import { Links } from "./Links.ts"
import { Settings } from "./Settings.ts"
import { Statistics } from "./Statistics.ts"
import { orUnavailable } from "./StoreFailure.ts"

const links = HttpApiBuilder.group(
  Api.Api,
  "links",
  Effect.fnUntraced(function*(handlers) {
    const links = yield* Links
    const limit = yield* LinkLimit
    const { name } = yield* Instance
    return handlers.handleAll({
      list: () => links.list,
      find: ({ params }) => links.find(params.code),
      create: Effect.fnUntraced(function*({ payload: { code, url } }) {
        yield* limit.take
        const link = { url, createdBy: name }
        yield* links.create(code, link)
        return link
      })
    })
  })
)

const operations = HttpApiBuilder.group(
  Api.Api,
  "operations",
  Effect.fnUntraced(function*(handlers) {
    const kv = yield* Kv.Kv
    const { name } = yield* Instance
    const instances = yield* Instances
    const settings = yield* Settings
    const statistics = yield* Statistics
    return handlers.handleAll({
      live: () => Effect.void,
      ready: () =>
        KvHealth.check().pipe(
          Effect.asVoid,
          Effect.provideService(Kv.Kv, kv),
          Effect.mapError(({ problems }) =>
            new Api.NotReady({ problems: problems.map(({ message, problem }) => `${problem}: ${message}`) })
          )
        ),
      status: Effect.fnUntraced(function*() {
        const { rejected, value } = yield* settings.state
        return {
          instance: name,
          leader: Option.getOrNull(yield* orUnavailable(statistics.leader)),
          instances: yield* orUnavailable(instances.addresses),
          settings: value,
          rejectedSettings: Option.getOrNull(Option.map(rejected, ({ message }) => message)),
          statistics: Option.getOrNull(yield* orUnavailable(statistics.newest))
        }
      })
    })
  })
)

export const layer = Layer.mergeAll(links, operations)
