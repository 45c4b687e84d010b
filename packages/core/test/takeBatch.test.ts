/**
 * The choice of a batch's operations: no operation waits longer than the queue before it takes, whatever arrives later.
 */
import { assert, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import type { BatchMember } from "../src/internal/batching/batchMember.ts"
import type { Footprint } from "../src/internal/batching/footprint.ts"
import { takeBatch } from "../src/internal/batching/takeBatch.ts"
import { integer } from "./arbitraries.ts"

interface Member extends Pick<BatchMember, "footprint" | "state"> {
  readonly keys: ReadonlyArray<string>
  /** How many operations were queued before it. */
  readonly before: number
  waited: number
}

const maxOps = 8
const bounds = { maxOps, maxBytes: 50, maxResponses: 6 }

/** Most operations are on the hot key `0`. A transaction has two keys and needs room. */
const operation = Arbitrary.map(
  Arbitrary.all([integer(0, 9), integer(0, 9), integer(0, maxOps / 2), integer(1, 40), integer(0, 9)]),
  ([a, b, room, bytes, gone]) => {
    const keys = a < 5 ? ["0"] : a < 8 ? ["0", `${b}`] : [`${b}`]
    return { keys, room: keys.length === 1 ? 0 : room, bytes, isGone: gone === 0 }
  }
)

it.prop(
  "an operation is sent after at most as many batches as operations were queued before it, and those on one key keep their order",
  [Arbitrary.array(Arbitrary.array(operation, { maxLength: 12 }), { minLength: 1, maxLength: 30 })],
  ([rounds]) => {
    const queue: Array<Member> = []
    const sent: Array<Member> = []
    const arrived: Array<Member> = []
    const arrive = ({ bytes, isGone, keys, room }: (typeof rounds)[0][0]): void => {
      const footprint: Footprint = { kind: "put", reads: [], writes: [...new Set(keys)], room, bytes }
      const member: Member = { footprint, keys, before: queue.length, waited: 0, state: isGone ? "Gone" : "Queued" }
      queue.push(member)
      if (!isGone) arrived.push(member)
    }
    const send = (): void => {
      const batch = takeBatch(queue, bounds)
      const written = batch.flatMap(({ footprint }) => footprint.writes)
      assert.strictEqual(new Set(written).size, written.length)
      for (const member of batch) assert.isAtMost(member.waited, member.before)
      for (const member of queue) member.waited += 1
      sent.push(...batch)
    }
    for (const round of rounds) {
      round.forEach(arrive)
      send()
    }
    while (queue.length > 0) send()
    assert.strictEqual(sent.length, arrived.length)
    const ofOneKey = (members: ReadonlyArray<Member>) =>
      members.filter(({ keys }) => keys.length === 1 && keys[0] === "0")
    assert.isTrue(ofOneKey(sent).every((member, i) => member === ofOneKey(arrived)[i]))
  },
  { arbitrary: { runs: 300 } }
)
