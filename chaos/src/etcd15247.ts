/**
 * A reproduction of etcd issue 15247 without this library: etcd ends leases early that were renewed in time.
 *
 * Leases are granted and renewed through etcd's own HTTP gateway, at members that are not stopped. The leader is
 * stopped for two seconds and resumed. Its successor renews the leases all the time, and the old leader revokes them
 * when it resumes.
 *
 *     node scripts/run.mjs --etcd node chaos/src/etcd15247.ts [VERSION] [rounds]
 *
 * See `DeposedLeader.ts` for why.
 */
import { type EtcdBinaries, EtcdCluster } from "@effect-kv/test-suite/verification"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Array from "effect/Array"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

const ttl = 2
const leasesPerRound = 8

const post = <S extends Schema.Top>(endpoint: string, path: string, schema: S, body: object) =>
  Effect.tryPromise((signal) =>
    fetch(`${endpoint}${path}`, { method: "POST", body: JSON.stringify(body), signal }).then((response) =>
      response.text()
    )
  ).pipe(
    Effect.timeout("1500 millis"),
    Effect.flatMap(Schema.decodeUnknownEffect(Schema.fromJsonString(schema)))
  )

const Granted = Schema.Struct({ ID: Schema.String })
const Renewed = Schema.Struct({ result: Schema.Struct({ TTL: Schema.optionalKey(Schema.String) }) })

/** Renews a lease until it has ended. Returns the time since its last renewal in milliseconds. */
const keepAlive = Effect.fnUntraced(function*(id: string, endpoint: string) {
  let renewed = yield* Clock.currentTimeMillis
  while (true) {
    const sentAt = yield* Clock.currentTimeMillis
    const response = yield* Effect.option(post(endpoint, "/v3/lease/keepalive", Renewed, { ID: id }))
    const alive = Option.map(response, ({ result }) => result.TTL !== undefined)
    if (Option.contains(alive, true)) renewed = sentAt
    if (Option.contains(alive, false)) return (yield* Clock.currentTimeMillis) - renewed
    yield* Effect.sleep("250 millis")
  }
})

const round = Effect.fnUntraced(function*(cluster: EtcdCluster.EtcdCluster["Service"], number: number) {
  const leader = yield* cluster.leader
  const others = cluster.endpoints.filter((endpoint) => endpoint !== leader.endpoint)
  const expired = Effect.map(
    cluster.metrics(leader),
    (metrics) => metrics.get("etcd_debugging_server_lease_expired_total")
  )
  const keeping = yield* Effect.forEach(Array.range(1, leasesPerRound), (i) => {
    const endpoint = others[i % others.length]!
    return Effect.flatMap(
      post(endpoint, "/v3/lease/grant", Granted, { TTL: ttl }),
      ({ ID }) => Effect.forkScoped(keepAlive(ID, endpoint))
    )
  })
  yield* Effect.sleep("700 millis")
  const before = yield* expired
  yield* Effect.acquireUseRelease(leader.pause, () => Effect.sleep(1700 + number % 5 * 150), () => leader.resume)
  yield* Effect.sleep("1200 millis")
  const successor = yield* cluster.leader
  const early = keeping.map((fiber) => fiber.pollUnsafe()).flatMap((exit) =>
    exit !== undefined && exit._tag === "Success" && exit.value < ttl * 1000 ? [exit.value] : []
  )
  yield* Fiber.interruptAll(keeping)
  yield* Console.log(
    `${leader.name} was stopped, ${successor.name} leads, ${leader.name} has revoked ${(yield* expired) - before}: ` +
      `${early.length} of ${leasesPerRound} leases of ${ttl} s ended early` +
      (early.length === 0 ? "" : `, ${early.join(", ")} ms after they were renewed`)
  )
  return early.length
}, Effect.scoped)

const main = Effect.gen(function*() {
  const [version = "3.7", rounds = "10"] = process.argv.slice(2)
  const cluster = yield* EtcdCluster.make({
    version: version as EtcdBinaries.Version,
    members: 3,
    flags: { "log-level": "debug" }
  })
  let early = 0
  for (let i = 0; i < Number(rounds); i++) {
    early += yield* Effect.retry(round(cluster, i), { schedule: Schedule.spaced("1 second"), times: 3 })
  }
  yield* Console.log(`etcd ${version}: ${early} of ${Number(rounds) * leasesPerRound} leases ended early`)
}).pipe(Effect.scoped)

NodeRuntime.runMain(main)
