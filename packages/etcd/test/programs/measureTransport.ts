/**
 * A benchmark of one unary call on the transport of `src/grpc`, beside a bare `node:http2` request and grpc-js, on one
 * etcd.
 *
 *     node scripts/run.mjs --etcd node packages/etcd/test/programs/measureTransport.ts [rounds] [milliseconds]
 *
 * All subjects send the same encoded request. They take turns in short rounds, forwards and backwards. A row is the
 * median of the rounds; a ratio is the median of the ratios to bare http2 within each round.
 */
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as grpc from "@grpc/grpc-js"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Http2 from "node:http2"
import * as Grpc from "../../src/grpc/make.ts"
import { frame } from "../../src/grpc/messages.ts"
import * as Target from "../../src/grpc/target.ts"
import { Writer } from "../../src/internal/wire/wireWriter.ts"

const path = "/etcdserverpb.KV/Range"

/** A range request for one key. */
const request = (() => {
  const writer = new Writer()
  writer.content(0x0a, "measured")
  return writer.finish()
})()

/** One subject: the given number of callers repeat the call until the time is over. */
interface Subject {
  readonly name: string
  readonly run: (inFlight: number, millis: number) => Effect.Effect<Round>
}

interface Round {
  readonly p50: number
  readonly perSecond: number
  readonly cpu: number
}

class Stopwatch {
  readonly #cpu = process.cpuUsage()
  readonly #from = performance.now()
  readonly #until: number
  readonly #times: Array<number> = []

  constructor(millis: number) {
    this.#until = this.#from + millis
  }

  /** Whether to continue. */
  lap(since: number): boolean {
    const now = performance.now()
    this.#times.push(now - since)
    return now < this.#until
  }

  stop(): Round {
    const { system, user } = process.cpuUsage(this.#cpu)
    const times = this.#times.sort((a, b) => a - b)
    return {
      p50: times[times.length >> 1]!,
      perSecond: times.length / (performance.now() - this.#from) * 1000,
      cpu: (user + system) / times.length
    }
  }
}

/** A subject with a callback API. */
const callbacks = (name: string, call: (done: () => void) => void): Subject => ({
  name,
  run: (inFlight, millis) =>
    Effect.callback((resume) => {
      const watch = new Stopwatch(millis)
      let running = inFlight
      const next = (): void => {
        const since = performance.now()
        call(() => {
          if (watch.lap(since)) next()
          else if (--running === 0) resume(Effect.sync(() => watch.stop()))
        })
      }
      for (let i = 0; i < inFlight; i++) next()
    })
})

const effects = (name: string, call: Effect.Effect<unknown>): Subject => ({
  name,
  run: (inFlight, millis) =>
    Effect.suspend(() => {
      const watch = new Stopwatch(millis)
      const caller = Effect.fnUntraced(function*() {
        let since = performance.now()
        do {
          since = performance.now()
          yield* call
        } while (watch.lap(since))
      })
      const callers = Array.from({ length: inFlight }, caller)
      return Effect.map(Effect.all(callers, { concurrency: "unbounded", discard: true }), () => watch.stop())
    })
})

const bare = (session: Http2.ClientHttp2Session) =>
  callbacks("bare http2", (done) => {
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      te: "trailers",
      "content-type": "application/grpc",
      "grpc-timeout": "5000m"
    }, { endStream: false })
    stream.on("data", () => {})
    stream.on("trailers", done)
    stream.end(frame(request))
  })

const grpcJs = (client: grpc.Client) =>
  callbacks("grpc-js", (done) =>
    client.makeUnaryRequest(
      path,
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      request,
      new grpc.Metadata(),
      { deadline: Date.now() + 5000 },
      done
    ))

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

const measure = Effect.fnUntraced(
  function*(subjects: ReadonlyArray<Subject>, inFlight: number, rounds: number, millis: number) {
    for (const subject of subjects) yield* subject.run(inFlight, millis)
    const found = subjects.map((): Array<Round> => [])
    for (let round = 0; round < rounds; round++) {
      const order = subjects.map((subject, index) => ({ subject, index }))
      for (const { index, subject } of round % 2 === 0 ? order : order.toReversed()) {
        found[index]!.push(yield* subject.run(inFlight, millis))
      }
    }
    const ratio = (index: number, field: keyof Round): string =>
      median(found[index]!.map((round, i) => round[field] / found[0]![i]![field])).toFixed(2)
    yield* Console.log(`\n${inFlight} in flight`)
    for (const [index, { name }] of subjects.entries()) {
      const [p50, perSecond, cpu] = (["p50", "perSecond", "cpu"] as const).map((field) =>
        median(found[index]!.map((round) => round[field]))
      )
      yield* Console.log(
        `${name.padEnd(12)} p50 ${p50!.toFixed(3)} ms (x${ratio(index, "p50")})  CPU ${
          cpu!.toFixed(0).padStart(4)
        } us (x${ratio(index, "cpu")})  ${perSecond!.toFixed(0).padStart(6)}/s (x${ratio(index, "perSecond")})`
      )
    }
  }
)

const main = Effect.gen(function*() {
  const [rounds = 11, millis = 400] = process.argv.slice(2).map(Number)
  const cluster = yield* EtcdCluster.make({ version: "3.5" })
  const endpoint = cluster.endpoints[0]!
  yield* cluster.etcdctl(["put", "measured", "x".repeat(100)])
  const session = yield* Effect.acquireRelease(
    Effect.sync(() => Http2.connect(endpoint)),
    (session) => Effect.sync(() => session.destroy())
  )
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => new grpc.Client(endpoint.replace("http://", ""), grpc.credentials.createInsecure())),
    (client) => Effect.sync(() => client.close())
  )
  const channel = yield* Grpc.make({ target: Option.getOrThrow(Target.fromUrl(endpoint)) })
  const subjects = [
    bare(session),
    effects("transport", Effect.orDie(channel.unary(path, request, { timeout: 5000 }))),
    grpcJs(client)
  ]
  yield* measure(subjects, 1, rounds, millis)
  yield* measure(subjects, 64, rounds, millis)
})

NodeRuntime.runMain(Effect.scoped(main))
