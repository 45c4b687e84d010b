/**
 * What networks do to connections: attempts that are swallowed, SYNs that are lost, names that move, proxies in the
 * environment, peers that never respond. Forgotten flows are in `silence.once.test.ts`, several members behind one address in
 * `balancer.once.test.ts`.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as RangeView from "@effect-kv/core/RangeView"
import * as EtcdClient from "@effect-kv/etcd/EtcdClient"
import type * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster, SynFilter, TcpProxy, TestCertificates } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Dns from "node:dns"
import * as Net from "node:net"
import { client, reason, services } from "./support/client.ts"
import { recordStalls, timedWithoutStalls } from "./support/stalls.ts"

/** A server for TLS, and one without, with the options to reach each. */
const cluster = (secure: boolean) =>
  Effect.gen(function*() {
    if (!secure) return { cluster: yield* EtcdCluster.make(), options: {} }
    const authority = yield* TestCertificates.make()
    const tls = { server: yield* authority.server(), ca: authority.ca }
    return { cluster: yield* EtcdCluster.make({ tls }), options: { tls: { ca: authority.ca.cert } } }
  })

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  for (const secure of [false, true]) {
    for (const endpoints of [1, 3]) {
      const how = `${endpoints === 1 ? "one endpoint" : "three endpoints"}${secure ? " with TLS" : ""}`
      it.effect(
        `A client of ${how} whose connection attempts were accepted and swallowed connects as soon as new ones work`,
        () =>
          Effect.gen(function*() {
            const { cluster: { endpoints: [target] }, options } = yield* cluster(secure)
            const proxies = yield* Effect.replicateEffect(TcpProxy.make({ target: target! }), endpoints)
            yield* Effect.forEach(proxies, (proxy) => proxy.swallow(true))
            const kv = yield* client({ endpoints: proxies.map(({ endpoint }) => endpoint), ...options })
            assert.strictEqual((yield* reason(Deadline.within(kv.get("a"), "1500 millis")))._tag, "Unavailable")
            yield* Effect.forEach(proxies, (proxy) => proxy.swallow(false))
            const [elapsed] = yield* timedWithoutStalls(kv.put("a", "1"))
            assert.isBelow(elapsed, 2500)
          }),
        60_000
      )
    }
  }

  it.effect(
    "A view whose own connection is lost, and swallowed when it connects again, is current soon after new ones work",
    () =>
      Effect.gen(function*() {
        const { endpoints, member } = yield* EtcdCluster.EtcdCluster
        const sockets: Array<Net.Socket> = []
        let swallows = false
        const server = yield* Effect.acquireRelease(
          Effect.callback<Net.Server>((resume) => {
            const server = Net.createServer((socket) => {
              sockets.push(socket.on("error", () => {}))
              if (swallows) return void socket.resume()
              const upstream = Net.connect(member.clientPort, "127.0.0.1").on("error", () => {})
              socket.on("close", () => upstream.destroy())
              socket.pipe(upstream).pipe(socket)
            })
            server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
          }),
          (server) =>
            Effect.sync(() => {
              server.close()
              for (const socket of sockets) socket.destroy()
            })
        )
        const kv = yield* client({ endpoints: [`http://127.0.0.1:${(server.address() as Net.AddressInfo).port}`] })
        const direct = yield* client({ endpoints })
        yield* kv.put("config", "1")
        const view = yield* Effect.provideService(RangeView.make(KeyRange.key("config")), Kv.Kv, kv)
        const shown = Effect.map(view.snapshot, ({ entries }) => entries.get("config")?.lossyText)
        // The first is that of calls.
        assert.strictEqual(sockets.length, 2)
        swallows = true
        sockets[1]!.destroy()
        yield* direct.put("config", "2")
        yield* Effect.repeat(Effect.sleep("10 millis"), { until: () => sockets.length > 3 })
        assert.deepStrictEqual(yield* kv.get("config"), Option.some("2"))
        assert.strictEqual(yield* shown, "1")
        swallows = false
        const [elapsed] = yield* timedWithoutStalls(
          view.waitUntil(({ entries }) => entries.get("config")?.lossyText === "2")
        )
        assert.isBelow(elapsed, 5000)
      }),
    60_000
  )

  it.effect(
    "After 20 seconds in which every SYN was dropped, the first response arrives within 2 seconds",
    () =>
      Effect.gen(function*() {
        const { member } = yield* EtcdCluster.EtcdCluster
        const network = yield* SynFilter.make({ port: member.clientPort })
        const kv = yield* client({ endpoints: [network.endpoint] })
        yield* network.close
        const calling = yield* Effect.forkChild(Deadline.within(kv.get("syn"), "1 minute"))
        yield* Effect.sleep("20 seconds")
        assert.strictEqual(calling.pollUnsafe(), undefined)
        yield* network.open
        const [elapsed] = yield* timedWithoutStalls(Fiber.join(calling))
        assert.isBelow(elapsed, 2000)
      }),
    60_000
  )

  it.effect("A name that moved to another address is resolved again, and each of its addresses is tried", () =>
    Effect.gen(function*() {
      const { member } = yield* EtcdCluster.EtcdCluster
      const { lookup } = Dns.promises
      let addresses = ["127.0.0.2"]
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          Object.assign(Dns.promises, {
            lookup: () => Promise.resolve(addresses.map((address) => ({ address, family: 4 })))
          })
        ),
        () => Effect.sync(() => Object.assign(Dns.promises, { lookup }))
      )
      const sockets = new Set<Net.Socket>()
      let responding = "127.0.0.2"
      const listen = (host: string, port: number) =>
        Effect.acquireRelease(
          Effect.callback<Net.Server>((resume) => {
            const server = Net.createServer((socket) => {
              sockets.add(socket.on("error", () => {}))
              if (host !== responding) return void socket.destroy()
              const upstream = Net.connect(member.clientPort, "127.0.0.1").on("error", () => {})
              socket.pipe(upstream).pipe(socket)
            })
            server.listen(port, host, () => resume(Effect.succeed(server)))
          }),
          (server) =>
            Effect.sync(() => {
              server.close()
              for (const socket of sockets) socket.destroy()
            })
        )
      const { port } = (yield* listen("127.0.0.2", 0)).address() as Net.AddressInfo
      yield* listen("127.0.0.3", port)
      const kv = yield* client({ endpoints: [`http://etcd.test:${port}`] })
      yield* kv.put("moved", "1")
      for (const now of [["127.0.0.3"], ["127.0.0.3", "127.0.0.4", "127.0.0.2"]]) {
        addresses = now
        responding = now[now.length - 1]!
        for (const socket of sockets) socket.destroy()
        const [elapsed, value] = yield* timedWithoutStalls(kv.get("moved"))
        assert.deepStrictEqual(value, Option.some("1"))
        assert.isBelow(elapsed, 2500)
      }
    }))

  it.effect("Proxies that environment variables name get no connection, neither of Kv nor of EtcdClient", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const proxy = yield* TcpProxy.make({ target: endpoints[0]! })
      const names = ["http_proxy", "https_proxy", "grpc_proxy", "all_proxy"].flatMap((
        name
      ) => [name, name.toUpperCase()])
      const before = names.map((name) => process.env[name])
      yield* Effect.acquireRelease(
        Effect.sync(() => names.forEach((name) => process.env[name] = proxy.endpoint)),
        () =>
          Effect.sync(() =>
            names.forEach((name, i) =>
              before[i] === undefined ? delete process.env[name] : process.env[name] = before[i]
            )
          )
      )
      const context = yield* services({ endpoints })
      const kv = Context.get(context, Kv.Kv)
      yield* kv.put("direct", "1")
      yield* kv.subscribe(KeyRange.key("direct"))
      const etcd3 = yield* Context.get(context, EtcdClient.EtcdClient).etcd3
      yield* Effect.promise(() => etcd3.maintenance.status())
      assert.strictEqual((yield* proxy.stats).opened, 0)
    }))

  for (const secure of [false, true]) {
    it.effect(`A layer that is closed while it connects leaves no socket${secure ? ", with TLS" : ""}`, () =>
      Effect.gen(function*() {
        const { cluster: { endpoints: [target] }, options } = yield* cluster(secure)
        const proxy = yield* TcpProxy.make({ target: target! })
        yield* proxy.swallow(true)
        const scope = yield* Scope.make()
        const kv = yield* Scope.provide(client({ endpoints: [proxy.endpoint], ...options }), scope)
        const calling = yield* Effect.forkChild(Effect.exit(kv.get("a")))
        const watching = yield* Effect.forkChild(Effect.exit(Effect.scoped(kv.subscribe(KeyRange.key("a")))))
        yield* Effect.repeat(proxy.stats, { until: ({ opened }) => opened >= 2 })
        yield* Scope.close(scope, Exit.void)
        yield* Effect.forEach([calling, watching], (fiber) => Fiber.join(fiber as Fiber.Fiber<unknown>))
        const { opened } = yield* proxy.stats
        yield* Effect.repeat(proxy.stats, { until: ({ live }) => live === 0 })
        yield* Effect.sleep("1200 millis")
        assert.deepStrictEqual((({ live, opened }) => ({ live, opened }))(yield* proxy.stats), { live: 0, opened })
      }))
  }

  const silences: ReadonlyArray<
    readonly [
      string,
      (
        proxy: TcpProxy.TcpProxy,
        member: EtcdCluster.Member
      ) => readonly [Effect.Effect<void>, Effect.Effect<unknown, unknown>]
    ]
  > = [
    ["a link that holds everything back", (proxy) => [proxy.blackhole(), proxy.heal]],
    ["a link that loses everything", (proxy) => [proxy.blackhole({ drop: true }), proxy.heal]],
    ["a server that is stopped by SIGSTOP", (_, member) => [member.pause, member.resume]],
    [
      "a proxy that accepts and never responds",
      (proxy) => [Effect.andThen(proxy.swallow(true), proxy.cut), proxy.swallow(false)]
    ]
  ]
  for (const [how, faultOf] of silences) {
    it.effect(
      `Deadlines hold to within 50 ms behind ${how}, and the first call after it ends succeeds within 2 seconds`,
      () =>
        Effect.gen(function*() {
          const { endpoints, member } = yield* EtcdCluster.EtcdCluster
          const proxy = yield* TcpProxy.make({ target: endpoints[0]! })
          const kv = yield* client({ endpoints: [proxy.endpoint] } satisfies EtcdLayer.Options)
          yield* kv.put("silent", "0")
          const [begin, end] = faultOf(proxy, member)
          const deadlines = [50, 200, 700, 1500, 3000, 6000]
          const calls = [
            kv.get("silent"),
            kv.put("silent", "1"),
            backendOf(kv).leaseKeepAlive(1n),
            Effect.scoped(kv.subscribe(KeyRange.key("silent")))
          ]
          yield* begin
          const stalled = yield* recordStalls
          const results = yield* Effect.forEach(
            deadlines.flatMap((millis) =>
              calls.map((call) => [millis, call as Effect.Effect<unknown, unknown>] as const)
            ),
            Effect.fnUntraced(function*([millis, call]) {
              const deadline = performance.now() + millis
              const result = yield* Effect.result(Deadline.within(call, millis))
              return { late: { from: deadline, to: performance.now() }, result }
            }),
            { concurrency: "unbounded" }
          ).pipe(Effect.ensuring(Effect.ignore(end)))
          const [elapsed] = yield* timedWithoutStalls(kv.get("silent"))
          assert.isBelow(elapsed, 2000)
          yield* kv.put("silent", "2")
          for (const { late, result } of results) {
            assert.isTrue(Result.isFailure(result))
            assert.isBelow(late.to - late.from - stalled(late), 50, `stalled for ${stalled(late).toFixed(0)} ms`)
          }
        }),
      60_000
    )
  }
})
