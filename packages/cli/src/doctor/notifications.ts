/**
 * Whether notifications of Postgres arrive: a pooler in transaction mode accepts a listener and passes none on.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { type Finding, ok, warning } from "./finding.ts"

/** How long one may take. */
const patience = "2 seconds"

/** Notifies itself. */
export const finding = (sql: PgClient.PgClient, channel: string): Effect.Effect<Finding> =>
  Effect.gen(function*() {
    const notifications = yield* sql.listen(channel)
    yield* sql.notify(channel, "doctor")
    return yield* Effect.timeoutOption(Queue.take(notifications), patience)
  }).pipe(
    Effect.scoped,
    Effect.match({
      onFailure: () => absent,
      onSuccess: (arrived) => arrived._tag === "Some" ? ok("notifications", "notifications arrive") : absent
    })
  )

const absent = warning(
  "no-notifications",
  "notifications do not arrive, as through a pooler in transaction mode: events and the hand-over of locks take up to " +
    "200 ms",
  "Programs that wait for locks often should connect to Postgres directly, or through the pooler in session mode."
)
