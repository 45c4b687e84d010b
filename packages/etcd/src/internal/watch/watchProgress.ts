/**
 * Asking how far a watch stream is, so that a quiet watch need not go on from long ago.
 *
 * A watch without events learns how far it is only every 10 minutes by itself. If it is cut off, and history was compacted
 * in between, it would end with `Compacted` though it missed nothing. So the server is asked: it answers at once, for all
 * watches of the stream together, if all of them have been sent everything; otherwise not at all.
 *
 * Before etcd 3.4.25 and 3.5.8 the answer could overtake events (etcd issue 15220), and to trust it would be to lose them.
 * So those are not asked, nor is a server behind a proxy that may be another than the one that serves the stream.
 */
import type { MemberStatus } from "../wire/statusCodec.ts"

/** Whether the member answers only after all events up to the revision in its answer. */
export const isTrusted = (status: MemberStatus, streamMember: bigint): boolean =>
  streamMember !== 0n && status.header.memberId === streamMember && answersInOrder(status.version)

const answersInOrder = (version: string): boolean => {
  const match = /^(\d+)\.(\d+)\.(\d+)$/.exec(version)
  if (match === null) return false
  const [major, minor, patch] = match.slice(1).map(Number) as [number, number, number]
  if (major !== 3) return major > 3
  if (minor === 4) return patch >= 25
  return minor === 5 ? patch >= 8 : minor > 5
}
