/** `effect-kv doctor`: connects, names what is wrong, and says what to do. */
import * as EtcdStatus from "@effect-kv/etcd/EtcdStatus"
import * as Command from "effect/cli/Command"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as connection from "../connection.ts"
import * as etcdLocks from "../doctor/etcdLocks.ts"
import { type Finding, ok, problem, text, warning } from "../doctor/finding.ts"
import * as locking from "../doctor/locking.ts"
import * as members from "../doctor/members.ts"
import * as exitCodes from "../exitCodes.ts"
import * as output from "../output.ts"

export const doctor = Command.make(
  "doctor",
  {},
  Effect.fnUntraced(function*() {
    const settings = yield* connection.settings
    const findings = yield* examine(settings).pipe(
      // The findings say what the log would.
      Effect.provideService(References.MinimumLogLevel, "None"),
      Effect.raceFirst(patience)
    )
    const isHealthy = findings.every(({ severity }) => severity !== "Problem")
    yield* output.result(`${settings.shown}\n${text(findings)}`, { url: settings.shown, isHealthy, findings })
    if (!isHealthy) return yield* new exitCodes.Exit({ code: exitCodes.no })
  })
).pipe(
  Command.withShortDescription("Names what is wrong, and what to do"),
  Command.withDescription(
    "Connects to each endpoint, and names what is wrong with TLS, authentication, permissions, versions, alarms, the " +
      "schema, settings and renewals, and what to do. It acquires a lock under effect-kv-doctor/ and leaves nothing. The exit code is 1 if there " +
      "is a problem."
  )
)

/** What is wrong is often known only after the time-out. */
const patience = Effect.sleep("1 second").pipe(
  Effect.andThen(output.progress("examining; what does not respond is given the whole --timeout")),
  Effect.andThen(Effect.never)
)

const examine = Effect.fnUntraced(function*(settings: connection.Settings) {
  const { options, prefix, url } = settings
  if (/^mem:/i.test(url)) return [ok("memory", "a store in memory has no endpoints")]
  if (connection.isPostgres(url)) {
    // Loaded with the code for Postgres.
    const postgres = yield* Effect.promise(() => import("../doctor/postgres.ts"))
    return yield* postgres.findings(settings)
  }
  const now = yield* Clock.currentTimeMillis
  const configured = {
    certificate: options.tls?.files?.certificate,
    hasAuthority: options.tls?.files?.ca !== undefined
  }
  const asked = yield* Effect.result(EtcdStatus.fromUrl(url, options))
  if (Result.isFailure(asked)) return [invalid(asked.failure.reason.message)]
  const endpoints = asked.success
  const found: Array<Finding> = [...insecure(options), ...members.findings(endpoints, configured, now)]
  // If none can be reached, there is nothing else to learn.
  if (endpoints.every(({ status }) => Result.isFailure(status) && status.failure.isRetryable)) return found
  const locks = yield* locking.findings({
    ...etcdLocks.terms({ username: options.auth?.username ?? userIn(url), prefix }),
    prefix,
    isRejected: found.some(({ code }) => code === "alarm-nospace" || code === "alarm-corrupt")
  }).pipe(Effect.provide(connection.open(settings)))
  return [...found, ...locks]
})

const insecure = ({ tls }: connection.Settings["options"]): ReadonlyArray<Finding> =>
  tls?.insecureSkipVerify === true
    ? [warning("unverified", "servers are not verified", "Use --ca FILE in place of --insecure-skip-verify.")]
    : []

const invalid = (message: string): Finding =>
  problem("configuration", message, "Correct the URL and the flags: see 'effect-kv doctor --help'.")

/** The user in a URL. */
const userIn = (url: string): string | undefined => {
  const [, user] = /^https?:\/\/([^:/@]+):[^/]*@/i.exec(url) ?? []
  return user === undefined ? undefined : decodeURIComponent(user)
}
