/**
 * The API of the service, which its server and its clients share: short links, and what an operator wants to see.
 */
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema } from "effect/http-api"
import * as Schema from "effect/Schema"

/** The name of a link, as in `/links/docs`. */
export const Code = Schema.String.check(Schema.isPattern(/^[a-z0-9-]{1,40}$/))

export const Link = Schema.Struct({ url: Schema.String, createdBy: Schema.String })

/** What the leader counted. */
export const Statistics = Schema.Struct({ links: Schema.Int, countedBy: Schema.String })

export const Settings = Schema.Struct({ linksPerMinute: Schema.Int, banner: Schema.String })

export const Status = Schema.Struct({
  /** The instance that responds. */
  instance: Schema.String,
  leader: Schema.NullOr(Schema.String),
  /** The addresses of all instances, by their names. */
  instances: Schema.Record(Schema.String, Schema.String),
  settings: Settings,
  /** Why newer settings are not in use; `null` if these are the newest. */
  rejectedSettings: Schema.NullOr(Schema.String),
  statistics: Schema.NullOr(Statistics)
})

export class LinkNotFound extends Schema.TaggedError<LinkNotFound>()(
  "LinkNotFound",
  { code: Schema.String },
  { httpApiStatus: 404 }
) {}

export class LinkTaken extends Schema.TaggedError<LinkTaken>()(
  "LinkTaken",
  { code: Schema.String },
  { httpApiStatus: 409 }
) {}

export class TooManyLinks extends Schema.TaggedError<TooManyLinks>()(
  "TooManyLinks",
  { retryAfterSeconds: Schema.Int },
  { httpApiStatus: 429 }
) {}

/** The store cannot be used right now. A write may have been applied: `outcome` says what is known. */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()(
  "StoreUnavailable",
  { message: Schema.String, outcome: Schema.Literals(["NotApplied", "Unknown"]) },
  { httpApiStatus: 503 }
) {}

/** What keeps the instance from serving: see `KvHealth`. */
export class NotReady extends Schema.TaggedError<NotReady>()(
  "NotReady",
  { problems: Schema.Array(Schema.String) },
  { httpApiStatus: 503 }
) {}

class LinksGroup extends HttpApiGroup.make("links")
  .add(
    HttpApiEndpoint.get("list", "/", {
      success: Schema.Record(Schema.String, Link),
      error: StoreUnavailable
    }),
    HttpApiEndpoint.get("find", "/:code", {
      params: { code: Code },
      success: Link,
      error: [LinkNotFound, StoreUnavailable]
    }),
    HttpApiEndpoint.post("create", "/", {
      payload: Schema.Struct({ code: Code, url: Schema.String }),
      success: Link.pipe(HttpApiSchema.status(201)),
      error: [LinkTaken, TooManyLinks, StoreUnavailable]
    })
  )
  .prefix("/links")
{}

class OperationsGroup extends HttpApiGroup.make("operations", { topLevel: true }).add(
  HttpApiEndpoint.get("status", "/status", { success: Status, error: StoreUnavailable }),
  /** Liveness: the process responds. It says nothing of the store, so an outage there restarts nothing. */
  HttpApiEndpoint.get("live", "/health/live", { success: HttpApiSchema.NoContent }),
  /** Readiness: the store is healthy, too. A load balancer sends requests to instances that are ready. */
  HttpApiEndpoint.get("ready", "/health/ready", { success: HttpApiSchema.NoContent, error: NotReady })
) {}

export class Api extends HttpApi.make("short-links").add(LinksGroup, OperationsGroup) {}
