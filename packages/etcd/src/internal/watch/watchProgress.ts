/**
 * Progress requests, which keep the resume revision of quiet watches recent.
 *
 * By default a watch without events learns its progress only every 10 minutes. If it is cut off, and history was
 * compacted meanwhile, it would end with `Compacted` although it missed nothing. So the client requests progress. The
 * server responds at once for all watches of the stream, if it has sent all of them everything, and otherwise not at
 * all.
 *
 * Before etcd 3.4.25 and 3.5.8 the response could overtake events (etcd issue 15220), and trusting it would lose them.
 * The client requests no progress from those versions, nor from a proxy whose member may not be the one that serves the
 * stream.
 */
import type { MemberStatus } from "../wire/statusCodec.ts"

/** Whether the member sends its progress response only after all events up to the revision in it. */
export const isTrusted = (status: Pick<MemberStatus, "header" | "version">, streamMember: bigint): boolean =>
  streamMember !== 0n && status.header.memberId === streamMember && respondsInOrder(status.version)

const respondsInOrder = (version: string): boolean => {
  const match = /^(\d+)\.(\d+)\.(\d+)$/.exec(version)
  if (match === null) return false
  const [major, minor, patch] = match.slice(1).map(Number) as [number, number, number]
  if (major !== 3) return major > 3
  if (minor === 4) return patch >= 25
  return minor === 5 ? patch >= 8 : minor > 5
}
