/**
 * The buffer of a watch: what a take gets of it.
 */
import { assert, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { type Segment, WatchBuffer } from "../src/internal/watch/watchBuffer.ts"
import type { WireEvent } from "../src/internal/watch/watchWire.ts"

const message = Buffer.alloc(0)

/** An event of so many bytes, besides what the buffer adds for each event. */
const event = (revision: number, bytes: number): WireEvent => ({
  isDelete: false,
  kv: {
    message,
    keyStart: 0,
    keyEnd: 0,
    valueStart: 0,
    valueEnd: bytes,
    createRevision: 1n,
    modRevision: BigInt(revision),
    version: 1,
    lease: 0n
  },
  previous: undefined
})

/** The bytes that the buffer counts for the events. */
const sizeOf = (events: ReadonlyArray<WireEvent>): number => {
  const buffer = new WatchBuffer({ take: Number.POSITIVE_INFINITY })
  buffer.push(events)
  return buffer.bytes
}

const takeAll = (buffer: WatchBuffer): ReadonlyArray<ReadonlyArray<Segment>> => {
  const takes: Array<ReadonlyArray<Segment>> = []
  while (!buffer.isEmpty) takes.push(buffer.take())
  return takes
}

/** Responses, each with its revisions, each with the sizes of its events. */
const responses = Arbitrary.schema(
  Schema.Array(
    Schema.NonEmptyArray(Schema.NonEmptyArray(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 900 }))))
  )
)

it.prop(
  "a take gets whole revisions, in order, and no more bytes than its limit unless one revision has more",
  { responses },
  ({ responses }) => {
    const take = 2000
    const buffer = new WatchBuffer({ take })
    let revision = 0
    const pushed = responses.map((revisions) =>
      revisions.flatMap((sizes) => {
        revision++
        return sizes.map((bytes) => event(revision, bytes))
      })
    )
    pushed.forEach((events) => buffer.push(events))
    assert.strictEqual(buffer.bytes, sizeOf(pushed.flat()))
    const takes = takeAll(buffer)
    assert.strictEqual(buffer.bytes, 0)
    assert.deepStrictEqual(takes.flat(2), pushed.flat())
    let last = 0n
    for (const segments of takes) {
      for (const segment of segments) {
        assert.isAbove(Number(segment[0]!.kv.modRevision), Number(last))
        last = segment.at(-1)!.kv.modRevision
      }
      const events = segments.flat()
      const isOneRevision = events[0]!.kv.modRevision === events.at(-1)!.kv.modRevision
      assert.isTrue(isOneRevision || sizeOf(events) <= take, `${sizeOf(events)} bytes`)
    }
  }
)

it("a take gets everything that is buffered if it is within the limits", () => {
  const buffer = new WatchBuffer({ take: 2000 })
  for (let i = 1; i <= 5; i++) buffer.push([event(i, 10)])
  assert.strictEqual(buffer.take().length, 5)
  assert.isTrue(buffer.isEmpty)
})
