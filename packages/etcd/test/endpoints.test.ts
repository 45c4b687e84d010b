/**
 * The choice of the endpoint for the next attempt.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Channels } from "../src/internal/rpc/channels.ts"
import * as Endpoints from "../src/internal/rpc/endpoints.ts"

/** The choice depends on neither address nor connection. */
const channels = {} as Channels

const setup = (...names: ReadonlyArray<string>) => {
  const all = names.map((name) => Endpoints.endpoint(name, channels))
  const endpoints = Endpoints.make(all, 0)
  return {
    endpoints,
    all,
    chosen: (now: number, ...avoid: ReadonlyArray<string>) => endpoints.choose(now, avoid).address
  }
}

describe("endpoints", () => {
  it("the preferred endpoint is used until it fails, then the next one, which stays preferred", () => {
    const { all, chosen, endpoints } = setup("a", "b", "c")
    assert.strictEqual(chosen(0), "a")
    endpoints.succeeded(all[0]!, 1)
    assert.strictEqual(chosen(2), "a")
    endpoints.failed(all[0]!, 3, "down")
    assert.strictEqual(chosen(4), "b")
    endpoints.succeeded(all[1]!, 5)
    assert.strictEqual(chosen(1_000_000), "b")
  })

  it("a suspended endpoint is tried again after a while if no other endpoint has replaced it", () => {
    const { all, chosen, endpoints } = setup("a", "b")
    endpoints.failed(all[0]!, 0, "down")
    endpoints.failed(all[1]!, 1, "down")
    assert.strictEqual(chosen(2), "a")
    assert.strictEqual(chosen(600), "a")
  })

  it("concurrent failures count once, and repeated failures suspend an endpoint for longer, up to a limit", () => {
    const { all, endpoints } = setup("a", "b")
    const a = all[0]!
    for (let i = 0; i < 100; i++) endpoints.failed(a, i, "down")
    assert.strictEqual(a.suspendedUntil, 500)
    endpoints.failed(a, 600, "down")
    assert.strictEqual(a.suspendedUntil, 1600)
    for (let now = 2000; now < 10_000_000; now += 20_000) endpoints.failed(a, now, "down")
    endpoints.failed(a, 20_000_000, "down")
    assert.strictEqual(a.suspendedUntil, 20_010_000)
    endpoints.succeeded(a, 20_000_001)
    endpoints.failed(a, 20_000_002, "down")
    assert.strictEqual(a.suspendedUntil, 20_000_502)
  })

  it("endpoints to avoid come last, both among healthy and among suspended endpoints", () => {
    const { all, chosen, endpoints } = setup("a", "b", "c")
    assert.strictEqual(chosen(0, "a"), "b")
    assert.strictEqual(chosen(0, "a", "b"), "c")
    assert.strictEqual(chosen(0, "a", "b", "c"), "a")
    endpoints.failed(all[1]!, 0, "down")
    assert.strictEqual(chosen(1, "a"), "c")
    assert.strictEqual(chosen(1, "a", "c"), "b")
  })

  it("a single endpoint is always used", () => {
    const { all, chosen, endpoints } = setup("a")
    endpoints.failed(all[0]!, 0, "down")
    assert.strictEqual(chosen(1, "a"), "a")
  })

  it("the preferred endpoint stays preferred while it is in the list, and the given one takes its place", () => {
    const { all, chosen, endpoints } = setup("a", "b")
    const c = Endpoints.endpoint("c", channels)
    endpoints.replace([all[1]!, c, all[0]!], 1)
    assert.strictEqual(chosen(0), "a")
    endpoints.replace([all[1]!, c], 1)
    assert.strictEqual(chosen(0), "c")
    assert.strictEqual(chosen(0, "c"), "b")
    assert.deepStrictEqual(endpoints.all().map(({ address }) => address), ["b", "c"])
    assert.strictEqual(endpoints.at("c"), c)
    assert.isUndefined(endpoints.at("a"))
  })

  it("responses and failures of a removed endpoint change nothing", () => {
    const changes: Array<string> = []
    const [a, b, c] = ["a", "b", "c"].map((name) => Endpoints.endpoint(name, channels))
    const endpoints = Endpoints.make([a!, b!], 0, ({ address }) => changes.push(address))
    endpoints.failed(a!, 0, "down")
    endpoints.replace([b!, c!], 0)
    endpoints.failed(b!, 1, "down")
    endpoints.failed(a!, 2000, "down")
    endpoints.succeeded(a!, 2)
    assert.deepStrictEqual(changes, ["a", "b"])
    assert.strictEqual(endpoints.choose(3).address, "c")
    // An endpoint that comes back has no failures.
    const again = Endpoints.endpoint("a", channels)
    endpoints.replace([again], 0)
    assert.strictEqual(endpoints.choose(4), again)
  })
})
