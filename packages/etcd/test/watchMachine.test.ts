/**
 * The watch state machine against an adversarial server. Whatever the order of events, each watch delivers exactly the
 * history, each revision once and whole. Otherwise it reports a compaction at the revision where it was.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import type * as Watch from "@effect-kv/core/Watch"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { StoreIdentity } from "../src/internal/store/storeIdentity.ts"
import { Suspicions } from "../src/internal/store/storeProbe.ts"
import { defaultLimits, type Limits } from "../src/internal/watch/watchBuffer.ts"
import { WatchPool } from "../src/internal/watch/watchPool.ts"
import type { WatchState } from "../src/internal/watch/watchState.ts"
import type { WatchStream } from "../src/internal/watch/watchStream.ts"
import { type Change, emptyResponse, type FakeStream, FakeWatchServer, selected } from "./support/FakeWatchServer.ts"

/** A few events exceed these limits, so that watches are parked all the time. */
const tinyLimits: Limits = {
  park: 900,
  parkWithinResponse: 1500,
  resume: 300,
  take: 600,
  farBehind: 6n,
  nearlyThere: 3n
}

const transient = (message: string, refreshToken = false) => ({
  error: KvError.make(new KvError.Unavailable({ message })),
  isTransient: true,
  refreshToken
})

const permanent = (message: string) => ({
  error: KvError.make(new KvError.PermissionDenied({ message })),
  isTransient: false,
  refreshToken: false
})

interface Watched {
  readonly watch: WatchState
  readonly request: Watch.WatchRequest
  readonly taken: Array<Watch.Revision>
  error: KvError.KvError | undefined
  isClosed: boolean
}

/** A client, a server and the streams between them. The test moves every message by hand. */
class World {
  readonly server: FakeWatchServer
  readonly pool: WatchPool
  readonly links = new Map<WatchStream, FakeStream>()
  readonly watched: Array<Watched> = []
  readonly identity = new StoreIdentity()
  readonly suspicions = new Suspicions()
  /** The states and faults that occurred, so that a test can check the coverage. */
  readonly seen = new Set<string>()

  constructor(choose: (n: number) => number, limits: Limits = tinyLimits) {
    this.server = new FakeWatchServer(choose)
    this.pool = new WatchPool({
      limits,
      store: { identity: this.identity, suspicions: this.suspicions },
      cancelFailure: (reason) =>
        reason.includes("denied") ? permanent(reason) : transient(reason, reason.includes("token")),
      release: (stream) => {
        const link = this.links.get(stream)
        if (link !== undefined) this.server.streams.delete(link)
        this.links.delete(stream)
      },
      wake: () => {},
      startTicking: () => {}
    })
    this.identity.onReplaced(({ message }) =>
      this.pool.storeReplaced(KvError.make(new KvError.StoreReplaced({ message, outcome: "NotApplied" })))
    )
  }

  open(request: Watch.WatchRequest): Watched {
    const watched: Watched = { watch: this.pool.open(request), request, taken: [], error: undefined, isClosed: false }
    this.watched.push(watched)
    return watched
  }

  close(watched: Watched): void {
    watched.isClosed = true
    this.pool.close(watched.watch, KvError.make(new KvError.Closed({ message: "closed" })))
  }

  connect(): void {
    const [lane] = this.pool.neededLanes()
    if (lane === undefined) return
    this.seen.add(lane)
    const link = this.server.open()
    // The pool sends creates as soon as it has the stream, so the responses wait in the link.
    const stream = this.pool.opened(lane, "endpoint", this.pool.streamOptions(lane), link.receive)
    this.links.set(stream, link)
  }

  deliver(most: number): void {
    for (const [stream, link] of Array.from(this.links)) {
      for (let i = 0; i < most && link.sent.length > 0 && this.links.has(stream); i++) {
        const response = link.sent.shift()!
        if (response.fragment) this.seen.add("fragment")
        stream.receive(response)
        this.note()
      }
    }
  }

  cut(): void {
    for (const [stream, link] of Array.from(this.links)) {
      if (link.sent.some((response) => response.fragment)) this.seen.add("cut between fragments")
      if (link.sent.some((response) => response.created)) this.seen.add("cut before created")
      this.pool.failed(stream, transient("cut"))
    }
    this.note()
  }

  take(watched: Watched): void {
    const taken = watched.watch.poll()
    if (taken === undefined) return
    if (KvError.isKvError(taken)) watched.error ??= taken
    else watched.taken.push(...taken)
    this.note()
  }

  note(): void {
    for (const { watch } of this.watched) this.seen.add(watch.state._tag)
  }

  /** Delivers everything until all watches are complete. */
  settle(): void {
    for (let i = 0; i < 2000; i++) {
      this.connect()
      for (const link of this.links.values()) link.sync()
      this.deliver(1000)
      for (const watched of this.watched) this.take(watched)
      if (this.watched.every((watched) => this.isComplete(watched))) return
    }
  }

  expected({ request, watch }: Watched): ReadonlyArray<readonly [bigint, ReadonlyArray<string>]> {
    const from = request.startRevision ?? watch.revision! + 1n
    return this.server.log.filter((entry) => entry.revision >= from).flatMap((entry) => {
      const changes = selected({ range: request.range, only: request.only }, entry)
      return changes.length === 0 ? [] : [[BigInt(entry.revision), changes.map(describeChange)] as const]
    })
  }

  isComplete(watched: Watched): boolean {
    if (watched.isClosed || watched.error !== undefined) return true
    if (watched.watch.revision === undefined) return false
    return watched.watch.state._tag === "Live" && watched.taken.length >= this.expected(watched).length &&
      [...this.links.values()].every((link) => link.sent.length === 0)
  }

  check(watched: Watched): void {
    if (watched.watch.revision === undefined) {
      assert.strictEqual(watched.taken.length, 0)
      return
    }
    const delivered = watched.taken.map(({ events, revision }) => [revision, events.map(describeEvent)] as const)
    const expected = this.expected(watched)
    if (watched.error === undefined && !watched.isClosed) {
      assert.deepStrictEqual(delivered, expected)
      return
    }
    assert.deepStrictEqual(delivered, expected.slice(0, delivered.length))
    if (watched.error?.reason._tag === "Compacted") {
      this.seen.add("Compacted")
      // `Compacted` is correct only if an event that was still due is gone, or could be.
      const next = watched.watch.next!
      assert.isTrue(BigInt(this.server.compactRevision) >= next, "reported a compaction although no due event was gone")
      assert.isAtLeast(Number(Option.getOrThrow(watched.error.reason.compactRevision)), Number(next))
    }
  }
}

const describeChange = ({ isDelete, key }: Change): string => `${isDelete ? "delete" : "put"} ${key}`
const describeEvent = (event: Watch.Event): string => `${event._tag === "Delete" ? "delete" : "put"} ${event.key}`

const keys = ["a", "b", "b/1", "b/2", "c"]

const ranges: ReadonlyArray<KeyRange.KeyRange> = [
  KeyRange.all,
  KeyRange.prefix("b"),
  KeyRange.key("a"),
  KeyRange.halfOpen("b/1", "c")
]

/** One step of a run. It draws its numbers from the same source as all other choices. */
const steps: ReadonlyArray<readonly [weight: number, step: (world: World, choose: (n: number) => number) => void]> = [
  [10, ({ server }, choose) =>
    server.write(Array.from({ length: 1 + choose(3) }, (_, i) => ({
      key: keys[(choose(keys.length) + i) % keys.length]!,
      isDelete: choose(3) === 0
    })))],
  [12, (world) => world.deliver(1)],
  [4, (world) => world.deliver(100)],
  [4, (world) => world.cut()],
  [8, (world) => world.connect()],
  [8, (world, choose) => world.watched.length > 0 && world.take(world.watched[choose(world.watched.length)]!)],
  [8, (world) => world.links.forEach((link) => link.sync())],
  [2, (world) => world.links.forEach((link) => link.progress())],
  [1, (world) => world.links.forEach((link) => link.overtakingProgress())],
  [2, (world) => world.links.forEach((link, stream) => link.respondsInOrder && stream.requestProgress())],
  [1, (world) => world.links.forEach((link) => link.repeat())],
  [1, (world, choose) => world.server.compact(world.server.revision - choose(3))],
  [1, (world, choose) => {
    for (const [stream] of Array.from(world.links)) {
      if (choose(2) === 0) continue
      world.pool.overflowed(stream, choose(2) * 2 ** 40)
      world.pool.failed(stream, transient("too large"))
    }
  }],
  [1, (world) => world.links.forEach((link) => link.rejections.push("etcdserver: invalid auth token"))],
  [1, (world) => world.links.forEach((link) => link.rejections.push("etcdserver: no leader"))],
  [1, (world) => world.pool.tick()],
  [3, (world, choose) => {
    if (world.watched.length >= 6) return
    const kinds = [undefined, undefined, "Put", "Delete"] as const
    world.open({
      range: ranges[choose(ranges.length)]!,
      startRevision: choose(2) === 0 ? undefined : BigInt(Math.max(1, world.server.revision + 3 - choose(12))),
      only: kinds[choose(kinds.length)]
    })
  }],
  [1, (world, choose) => world.watched.length > 0 && world.close(world.watched[choose(world.watched.length)]!)]
]

const table = steps.flatMap(([weight, step]) => Array.from({ length: weight }, () => step))

/** One seed decides everything (mulberry32), so that a failure can be reproduced. */
const choicesOf = (seed: number): (n: number) => number => {
  let state = seed
  return (n) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % n
  }
}

const seed = Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0x7fffffff })))

const play = (seed: number): World => {
  const choose = choicesOf(seed)
  const world = new World(choose, choose(3) === 0 ? defaultLimits : tinyLimits)
  for (let i = 0; i < 300; i++) table[choose(table.length)]!(world, choose)
  for (const link of world.links.values()) link.rejections.length = 0
  world.settle()
  for (const watched of world.watched) world.check(watched)
  return world
}

describe("the state machine of watches", () => {
  const seen = new Set<string>()

  it.prop(
    "a watch delivers exactly the history, whatever is cut, parked, repeated or compacted at any time",
    [seed],
    ([seed]) => {
      for (const what of play(seed).seen) seen.add(what)
    },
    { timeout: 300_000, arbitrary: { runs: Number(process.env["EFFECT_KV_WATCH_RUNS"] ?? 3000) } }
  )

  it("the random runs reached every state and every fault", () => {
    const states = ["Waiting", "Creating", "Live", "Parked", "Ended"]
    const faults = ["fragment", "cut between fragments", "cut before created", "Compacted"]
    for (const what of states.concat(faults, "key", "range", "catchUp", "large")) assert.isTrue(seen.has(what), what)
  })
})

/** A world whose server sends as much as possible in each message. */
const plain = (): World => new World(() => 0, defaultLimits)

const only = (world: World): FakeStream => {
  assert.strictEqual(world.links.size, 1)
  return [...world.links.values()][0]!
}

const put = (key: string): ReadonlyArray<Change> => [{ key, isDelete: false }]

describe("watches on one stream", () => {
  it("a member that lags delivers nothing until the store is known to be the same", () => {
    const world = plain()
    const watched = world.open({ range: KeyRange.all })
    world.connect()
    world.server.write(put("a"))
    world.deliver(100)
    world.identity.observe(
      { clusterId: 1n, memberId: 1n, revision: 9n },
      world.identity.sent(),
      "another",
      "Linearizable"
    )
    world.cut()
    world.connect()
    world.server.write(put("b"))
    world.deliver(100)
    assert.strictEqual(watched.watch.status?._tag, "Interrupted")
    world.pool.storeVerified(world.suspicions.next - 1)
    for (let i = 0; i < 3; i++) {
      only(world).sync()
      world.deliver(100)
    }
    world.take(watched)
    world.take(watched)
    assert.strictEqual(watched.watch.status?._tag, "Live")
    assert.deepStrictEqual(watched.taken.map(({ revision }) => revision), [2n, 3n])
  })

  it("a store that went back ends the watches that depend on its revisions, and the others continue on a new stream", () => {
    const world = plain()
    const watched = world.open({ range: KeyRange.all })
    world.connect()
    world.server.write(put("a"))
    world.deliver(100)
    world.identity.observe(
      { clusterId: 1n, memberId: 1n, revision: 9n },
      world.identity.sent(),
      "another",
      "Linearizable"
    )
    world.cut()
    world.connect()
    world.deliver(100)
    const fresh = world.open({ range: KeyRange.all })
    const from = world.open({ range: KeyRange.all, startRevision: 3n })
    world.identity.observe(
      { clusterId: 1n, memberId: 1n, revision: 2n },
      world.identity.sent(),
      "endpoint",
      "Linearizable"
    )
    assert.strictEqual(world.links.size, 0)
    for (const old of [watched, watched, from]) world.take(old)
    assert.deepStrictEqual([watched, from].map(({ error }) => error?.reason._tag), ["StoreReplaced", "StoreReplaced"])
    world.connect()
    world.deliver(100)
    assert.strictEqual(fresh.watch.status?._tag, "Live")
  })

  it("another cluster's events are never delivered, even on a stream that was live", () => {
    const world = plain()
    const watched = world.open({ range: KeyRange.all })
    world.connect()
    world.deliver(100)
    const [[stream]] = [...world.links] as [[WatchStream, FakeStream]]
    stream.receive({ ...emptyResponse, header: { clusterId: 2n, memberId: 1n, revision: 1n }, watchId: 1 })
    world.server.write(put("a"))
    world.take(watched)
    assert.deepStrictEqual([watched.error?.reason._tag, watched.taken], ["StoreReplaced", []])
  })

  it("a stream that stays behind is closed if no read finds out why", () => {
    const world = plain()
    const watched = world.open({ range: KeyRange.all, startRevision: 2n })
    world.identity.observe(
      { clusterId: 1n, memberId: 1n, revision: 9n },
      world.identity.sent(),
      "another",
      "Linearizable"
    )
    world.connect()
    world.deliver(100)
    for (let i = 0; i < 10; i++) world.pool.tick()
    assert.strictEqual(world.links.size, 0)
    assert.strictEqual(watched.watch.state._tag, "Waiting")
  })

  it("a rejected watch ends with its reason, and the others stay on the stream", () => {
    const world = plain()
    const watched = ["a", "b", "c"].map((key) => world.open({ range: KeyRange.key(key) }))
    world.connect()
    const link = only(world)
    // Before the first response, creates would wait for each other.
    world.deliver(100)
    link.rejections.push("etcdserver: permission denied")
    const rejected = world.open({ range: KeyRange.key("denied") })
    const after = world.open({ range: KeyRange.key("d") })
    world.deliver(100)
    world.take(rejected)
    assert.strictEqual(rejected.error?.reason._tag, "PermissionDenied")
    assert.deepStrictEqual([...watched, after].map(({ watch }) => watch.state._tag), Array(4).fill("Live"))
    assert.strictEqual(only(world), link)
  })

  it("a rejected watch ends with its reason, even if creates of others wait for its response", () => {
    const world = plain()
    const denied = world.open({ range: KeyRange.key("denied") })
    const others = ["a", "b", "c"].map((key) => world.open({ range: KeyRange.key(key) }))
    const link = world.server.open()
    link.rejections.push("etcdserver: permission denied")
    world.links.set(world.pool.opened("key", "endpoint", world.pool.streamOptions("key"), link.receive), link)
    assert.strictEqual(link.sent.length, 1)
    world.deliver(100)
    world.take(denied)
    assert.strictEqual(denied.error?.reason._tag, "PermissionDenied")
    assert.deepStrictEqual(others.map(({ watch }) => watch.state._tag), Array(3).fill("Live"))
  })

  it("a watch that is closed before or while it is created under an id of the server's choice is gone there", () => {
    const world = new World((n) => n - 1)
    assert.isTrue(world.server.choosesIds)
    const [first, second, third] = ["a", "b", "c"].map((key) => world.open({ range: KeyRange.key(key) }))
    world.connect()
    const link = only(world)
    world.close(first!)
    world.close(second!)
    world.deliver(100)
    assert.strictEqual(link.watcherCount, 1)
    assert.strictEqual(third!.watch.state._tag, "Live")
    world.close(third!)
    assert.strictEqual(link.watcherCount, 0)
  })

  it("a server that begins to choose ids while several creates are in flight gets a new stream, with one at a time", () => {
    const world = plain()
    const first = world.open({ range: KeyRange.key("a") })
    world.connect()
    world.deliver(100)
    const others = ["b", "c"].map((key) => world.open({ range: KeyRange.key(key) }))
    const link = only(world)
    const [b, c] = link.sent.splice(0)
    link.sent.push({ ...c!, watchId: 0 }, { ...b!, watchId: 1 })
    world.deliver(100)
    assert.strictEqual(world.links.size, 0)
    world.connect()
    assert.strictEqual(only(world).sent.length, 1)
    world.deliver(100)
    assert.deepStrictEqual([first, ...others].map(({ watch }) => watch.state._tag), Array(3).fill("Live"))
  })

  it("a watch that is closed while it is created is removed from the server, and the others stay on the stream", () => {
    const world = plain()
    const before = world.open({ range: KeyRange.key("a") })
    world.connect()
    const link = only(world)
    const closed = world.open({ range: KeyRange.key("b") })
    const after = world.open({ range: KeyRange.key("c") })
    world.close(closed)
    world.deliver(100)
    assert.strictEqual(link.watcherCount, 2)
    assert.deepStrictEqual([before, after].map(({ watch }) => watch.state._tag), ["Live", "Live"])
    assert.strictEqual(only(world), link)
  })

  it("a full watch is parked, delivers its buffer and resumes for the rest, and its neighbour is not affected", () => {
    const world = new World(() => 0)
    const slow = world.open({ range: KeyRange.all })
    const quick = world.open({ range: KeyRange.all })
    world.connect()
    world.deliver(100)
    for (let i = 0; i < 20; i++) {
      world.server.write(put(`k${i}`))
      world.deliver(100)
      world.take(quick)
    }
    assert.strictEqual(slow.watch.state._tag, "Parked")
    assert.strictEqual(only(world).watcherCount, 1)
    assert.isBelow(slow.watch.bufferedBytes, 2 * tinyLimits.park)
    assert.strictEqual(quick.taken.length, 20)
    world.settle()
    world.check(slow)
    assert.strictEqual(slow.watch.state._tag, "Live")
  })

  it("a consumer takes a full buffer in parts, and the parked watch resumes only when little is left", () => {
    const world = new World(() => 0)
    for (let i = 0; i < 12; i++) world.server.write(put(`k${i}`))
    const slow = world.open({ range: KeyRange.all, startRevision: 1n })
    world.connect()
    for (let i = 0; i < 20 && slow.watch.state._tag !== "Parked"; i++) {
      world.connect()
      for (const link of world.links.values()) link.sync()
      world.deliver(100)
    }
    assert.strictEqual(slow.watch.state._tag, "Parked")
    const parts: Array<number> = []
    while (slow.watch.state._tag === "Parked") {
      assert.isAbove(slow.watch.bufferedBytes, tinyLimits.resume)
      const before = slow.taken.length
      world.take(slow)
      parts.push(slow.taken.length - before)
    }
    assert.isAbove(parts.length, 1)
    for (const events of parts) assert.isAtMost(events, 2)
    world.settle()
    world.check(slow)
  })

  it("the gauges of watches are their states, how far the last one lags, and what is buffered", () => {
    const world = new World(() => 0)
    const slow = world.open({ range: KeyRange.all })
    const quick = world.open({ range: KeyRange.all })
    const counts = () => ["Waiting", "Live", "Parked"].map((tag) => world.pool.count(({ state }) => state._tag === tag))
    assert.deepStrictEqual(counts(), [2, 0, 0])
    world.connect()
    world.deliver(100)
    assert.deepStrictEqual(counts(), [0, 2, 0])
    for (let i = 0; i < 20; i++) {
      world.server.write(put(`k${i}`))
      world.deliver(100)
      world.take(quick)
    }
    assert.deepStrictEqual(counts(), [0, 1, 1])
    assert.strictEqual(world.pool.lag(), quick.watch.next! - slow.watch.next!)
    assert.isTrue(world.pool.lag() > 0n)
    assert.strictEqual(world.pool.bufferedBytes(), slow.watch.bufferedBytes)
    world.settle()
    assert.deepStrictEqual(counts(), [0, 2, 0])
    assert.strictEqual(world.pool.lag(), 0n)
    assert.strictEqual(world.pool.bufferedBytes(), 0)
  })

  it("neither a watch that has ended nor one that waits for a future revision counts as a lag", () => {
    const world = plain()
    const quick = world.open({ range: KeyRange.key("k") })
    world.connect()
    world.deliver(100)
    const future = BigInt(world.server.revision) + 1000n
    const patient = world.open({ range: KeyRange.key("k"), startRevision: future })
    const ended = world.open({ range: KeyRange.key("k") })
    world.deliver(100)
    assert.strictEqual(world.pool.lag(), 0n)
    ended.watch.end(KvError.make(new KvError.Compacted({ compactRevision: Option.none() })))
    for (let i = 0; i < 3; i++) world.server.write(put("k"))
    world.deliver(100)
    assert.strictEqual(quick.watch.next, BigInt(world.server.revision) + 1n)
    assert.strictEqual(patient.watch.next, future)
    assert.strictEqual(world.pool.lag(), 0n)
  })

  it("a waiting consumer gets events before the watch can count as full", () => {
    const world = new World(() => 0)
    const watched = world.open({ range: KeyRange.all })
    world.connect()
    world.deliver(100)
    watched.watch.onReady = () => world.take(watched)
    world.server.write(Array.from({ length: 20 }, (_, i) => ({ key: `k${i}`, isDelete: false })))
    world.deliver(100)
    assert.strictEqual(watched.taken.length, 1)
    assert.strictEqual(watched.watch.state._tag, "Live")
  })

  it("a watch that is far behind catches up on a separate stream, and then returns", () => {
    const world = new World(() => 0, { ...defaultLimits, farBehind: 6n, nearlyThere: 3n })
    const lanes = (): ReadonlyArray<string> =>
      [...world.links].filter(([, link]) => link.watcherCount > 0).map(([{ lane }]) => lane)
    for (let i = 0; i < 20; i++) world.server.write(put("a"))
    const live = world.open({ range: KeyRange.all })
    const behind = world.open({ range: KeyRange.all, startRevision: 2n })
    world.connect()
    world.deliver(100)
    world.connect()
    world.deliver(100)
    assert.deepStrictEqual(lanes(), ["range", "catchUp"])
    world.settle()
    world.check(behind)
    world.server.write(put("a"))
    world.settle()
    world.check(live)
    world.check(behind)
    assert.deepStrictEqual(lanes(), ["range"])
  })

  it("a watch whose token is rejected moves to a new stream with a new token, and the others stay on the old one", () => {
    const world = plain()
    const old = world.open({ range: KeyRange.key("a") })
    world.connect()
    world.deliver(100)
    only(world).rejections.push("etcdserver: invalid auth token")
    const late = world.open({ range: KeyRange.key("a") })
    world.deliver(100)
    assert.isTrue(world.pool.streamOptions("key").refreshToken)
    world.connect()
    world.deliver(100)
    assert.strictEqual(world.links.size, 2)
    world.server.write(put("a"))
    world.deliver(100)
    for (const watched of [old, late]) {
      world.take(watched)
      assert.strictEqual(watched.taken.length, 1)
    }
    assert.strictEqual(old.watch.interrupted, undefined)
  })

  it("a watch whose new token is rejected too ends", () => {
    const world = plain()
    const watched = world.open({ range: KeyRange.key("a") })
    for (let i = 0; i < 2; i++) {
      world.connect()
      const [stream, link] = [...world.links].at(-1)!
      link.sent.length = 0
      stream.receive({
        ...emptyResponse,
        header: { clusterId: 1n, memberId: 1n, revision: 1n },
        watchId: -1,
        created: true,
        canceled: true,
        cancelReason: "etcdserver: invalid auth token"
      })
    }
    world.take(watched)
    assert.isDefined(watched.error)
    assert.deepStrictEqual(world.pool.neededLanes(), [])
  })

  /** A watch of all keys that gets a response of this size, which exceeds the limit of its stream. */
  const overflowing = (world: World, bytes: number, changes = ["a", "b", "c"].flatMap(put)): Watched => {
    const watched = world.open({ range: KeyRange.all })
    world.connect()
    world.deliver(1)
    const [[stream]] = [...world.links] as [[WatchStream, FakeStream]]
    world.pool.overflowed(stream, bytes)
    world.cut()
    world.server.write(changes)
    return watched
  }
  const mebibyte = 1024 * 1024

  it("after a message far above the limit, the watch moves to its own stream and requests fragments", () => {
    for (const [bytes, isSplit] of [[30 * mebibyte, false], [100 * mebibyte, true]] as const) {
      const world = plain()
      const watched = overflowing(world, bytes)
      assert.deepStrictEqual(world.pool.neededLanes(), ["large"])
      assert.isTrue(world.pool.streamOptions("large").whole)
      world.connect()
      assert.deepStrictEqual(only(world).fragments, [isSplit])
      world.settle()
      world.check(watched)
      assert.deepStrictEqual([...world.links].filter(([, link]) => link.watcherCount > 0).map(([{ lane }]) => lane), [
        "range"
      ])
    }
  })

  it("a watch requests fragments after a smaller message too, if the message may contain many revisions", () => {
    const world = plain()
    const watched = world.open({ range: KeyRange.all, startRevision: 2n })
    for (let i = 0; i < 200; i++) world.server.write(put("a"))
    world.connect()
    world.deliver(100)
    const [[stream]] = [...world.links] as [[WatchStream, FakeStream]]
    world.pool.overflowed(stream, 30 * mebibyte)
    world.cut()
    world.connect()
    assert.deepStrictEqual(only(world).fragments, [true])
    world.settle()
    world.check(watched)
  })

  it("a watch requests the whole response again if its fragments contain many small events", () => {
    const world = plain()
    const deletes = Array.from({ length: 10_000 }, (_, i) => ({ key: `${i}`, isDelete: true }))
    const watched = overflowing(world, 100 * mebibyte, deletes)
    world.connect()
    world.deliver(100)
    const [[stream, link]] = [...world.links] as [[WatchStream, FakeStream]]
    link.sync()
    const whole = link.sent.shift()!
    stream.receive({ ...whole, events: whole.events.slice(0, 9000), fragment: true })
    assert.deepStrictEqual(world.pool.neededLanes(), ["large"])
    world.connect()
    assert.deepStrictEqual(only(world).fragments, [false])
    world.settle()
    world.check(watched)
  })

  it("a watch accepts fragments of many small events if the server cannot send the whole response", () => {
    const world = plain()
    const deletes = Array.from({ length: 10_000 }, (_, i) => ({ key: `${i}`, isDelete: true }))
    const watched = overflowing(world, 100 * mebibyte, deletes)
    world.connect()
    world.deliver(100)
    const [[large]] = [...world.links] as [[WatchStream, FakeStream]]
    world.pool.overflowed(large, 3000 * mebibyte)
    world.cut()
    world.connect()
    world.deliver(100)
    const [[stream, link]] = [...world.links] as [[WatchStream, FakeStream]]
    link.sync()
    const whole = link.sent.shift()!
    stream.receive({ ...whole, events: whole.events.slice(0, 9000), fragment: true })
    stream.receive({ ...whole, events: whole.events.slice(9000) })
    world.settle()
    world.check(watched)
    assert.deepStrictEqual(link.fragments, [true])
  })

  it("a progress response does not apply to a watch that was created after the progress request", () => {
    const world = plain()
    const first = world.open({ range: KeyRange.all })
    world.connect()
    world.deliver(100)
    for (let i = 0; i < 5; i++) world.server.write(put("a"))
    only(world).progress()
    world.deliver(100)
    const [[stream, link]] = [...world.links] as [[WatchStream, FakeStream]]
    stream.requestProgress()
    const late = world.open({ range: KeyRange.all, startRevision: 2n })
    // Responses to creates can overtake progress responses.
    link.sent.reverse()
    world.deliver(2)
    assert.deepStrictEqual([first, late].map(({ watch }) => [watch.state._tag, watch.next]), [["Live", 7n], [
      "Live",
      2n
    ]])
    world.settle()
    world.check(late)
  })

  it("a watch of a single key shares no stream with watches of ranges", () => {
    const world = plain()
    world.open({ range: KeyRange.all })
    world.open({ range: KeyRange.key("lock") })
    world.connect()
    world.connect()
    assert.deepStrictEqual([...world.links.keys()].map(({ lane }) => lane), ["range", "key"])
  })

  it("a progress notification between the fragments of a response loses no fragment", () => {
    const world = new World(() => 1, defaultLimits)
    const watched = overflowing(world, 100 * mebibyte)
    world.connect()
    world.deliver(100)
    only(world).sync()
    const { sent } = only(world)
    assert.deepStrictEqual(sent.map(({ events, fragment }) => [events.length, fragment]), [[2, true], [1, false]])
    world.deliver(1)
    only(world).progress()
    sent.unshift(sent.pop()!)
    world.settle()
    world.check(watched)
    assert.strictEqual(watched.taken.length, 1)
  })

  it("pending watches leave a stream that owes a response and is silent, and live watches leave it only much later", () => {
    const world = plain()
    world.open({ range: KeyRange.all })
    world.connect()
    world.deliver(100)
    const link = only(world)
    const late = world.open({ range: KeyRange.all })
    const owed = link.sent.splice(0)
    for (let i = 0; i < 10; i++) {
      world.server.write(put("a"))
      world.deliver(100)
      assert.isTrue(world.pool.tick())
    }
    assert.strictEqual(only(world), link)
    for (let i = 0; i < 4; i++) world.pool.tick()
    assert.strictEqual(owed.length, 1)
    assert.strictEqual(late.watch.state._tag, "Waiting")
    // A large response may be in flight. The live watch must not restart it.
    assert.strictEqual(only(world), link)
    for (let i = 0; i < 60; i++) world.pool.tick()
    assert.strictEqual(world.links.size, 0)
  })

  it("a stream without watches is closed after a moment, not immediately", () => {
    const world = plain()
    const watched = world.open({ range: KeyRange.all })
    world.connect()
    world.deliver(100)
    world.close(watched)
    world.deliver(100)
    assert.isTrue(world.pool.tick())
    assert.strictEqual(world.links.size, 1)
    assert.isFalse(world.pool.tick())
    assert.strictEqual(world.links.size, 0)
  })

  it("the delay before an attempt grows with each failure, and is zero before the first attempt", () => {
    const world = plain()
    world.open({ range: KeyRange.all })
    const delays = Array.from({ length: 10 }, () => {
      const delay = world.pool.delay(1)
      world.pool.notOpened(transient("down").error)
      return delay
    })
    assert.deepStrictEqual(delays, [0, 25, 50, 100, 200, 400, 800, 1000, 1000, 1000])
    world.connect()
    world.deliver(100)
    // A stream that breaks directly after its confirmation does not count as a success.
    assert.isAbove(world.pool.delay(1), 0)
    world.pool.tick()
    world.pool.tick()
    assert.strictEqual(world.pool.delay(1), 0)
  })

  it("a permanent error ends the waiting watches, and not the live ones", () => {
    const world = plain()
    const live = world.open({ range: KeyRange.all })
    world.connect()
    world.deliver(100)
    only(world).rejections.push("etcdserver: invalid auth token")
    const waits = world.open({ range: KeyRange.all })
    world.deliver(100)
    world.pool.notOpened(KvError.make(new KvError.Unauthenticated({ message: "wrong password" })))
    world.take(waits)
    assert.strictEqual(waits.error?.reason._tag, "Unauthenticated")
    assert.strictEqual(live.watch.state._tag, "Live")
  })
})

describe("the reason why a watch waits", () => {
  it("is not that of the watches before it", () => {
    const world = new World(() => 0)
    const first = world.open({ range: KeyRange.all })
    world.pool.notOpened(KvError.make(new KvError.Unavailable({ message: "connection refused" })))
    assert.strictEqual(world.pool.lastFailure, "connection refused")
    const second = world.open({ range: KeyRange.all })
    assert.strictEqual(world.pool.lastFailure, "connection refused", "the watches still wait for the same stream")
    world.close(first)
    world.close(second)
    world.open({ range: KeyRange.all })
    assert.isUndefined(world.pool.lastFailure)
  })
})
