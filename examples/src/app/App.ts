/**
 * The service as a layer: it serves requests, is listed and takes part in the election as long as it lives.
 *
 * It needs a store, the name of the instance, and a server. So tests and the program decide where it runs.
 */
import { HttpRouter } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import * as Layer from "effect/Layer"
import * as Api from "./Api.ts"
import * as Handlers from "./Handlers.ts"
import { Instances } from "./Instances.ts"
import { LinkLimit } from "./LinkLimit.ts"
import { Links } from "./Links.ts"
import { Settings } from "./Settings.ts"
import { Statistics } from "./Statistics.ts"

const services = Layer.mergeAll(LinkLimit.layer, Statistics.layer, Instances.layer).pipe(
  Layer.provideMerge(Layer.merge(Links.layer, Settings.layer))
)

const server = HttpRouter.serve(HttpApiBuilder.layer(Api.Api).pipe(Layer.provide(Handlers.layer)), {
  disableLogger: true
})

/** Layers end in the reverse order. So the instance is first removed from the list, and then stops serving. */
export const layer = Instances.register.pipe(
  Layer.provideMerge(server),
  Layer.provide(services)
)
