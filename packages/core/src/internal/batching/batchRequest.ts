/**
 * The request of a batch: how its operations are sent, and what a failure of the request means for each of them.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as LastFailure from "../../backend/LastFailure.ts"
import * as SendControl from "../../backend/SendControl.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { type BatchMember, now } from "./batchMember.ts"
import * as batchSpan from "./batchSpan.ts"

/**
 * A request and the context it runs in. The backend is called inside the effect only, so that anything it throws
 * becomes a defect of the effect.
 */
export interface BatchRequest {
  readonly effect: Effect.Effect<ReadonlyArray<Op.Response>, KvError.KvError>
  readonly context: Context.Context<never>
}

/** The request of one operation, sent as it is, with what is left of its deadline. */
export const ofOne = (backend: KvBackend, member: BatchMember): BatchRequest => ({
  effect: Effect.map(Effect.suspend(() => backend.execute(member.op)), (response) => [response]),
  context: withDeadline(member.fiber.context, remaining([member]))
})

/** The request of several operations as one transaction, with the longest of their deadlines and no parent span. */
export const ofSeveral = (
  backend: KvBackend,
  members: ReadonlyArray<BatchMember>,
  sendControl: SendControl.SendControl,
  record: LastFailure.LastFailure
): BatchRequest => ({
  effect: batchSpan.around(
    members,
    Effect.map(
      Effect.suspend(() => execute(backend, transaction(members))),
      (response) => response.responses
    )
  ),
  context: withDeadline(batchSpan.contextOf(members), remaining(members)).pipe(
    Context.add(SendControl.Current, sendControl),
    Context.add(LastFailure.Current, record)
  )
})

/**
 * A full etcd rejects a transaction with a put in it, but overlooks puts in nested transactions. A batch of
 * transactions alone therefore gets a put that never runs: in the `else` of a transaction without conditions.
 */
const transaction = (members: ReadonlyArray<BatchMember>): Op.Txn => {
  const [first] = members
  const hidesPuts = first?.footprint.kind === "put" && members.every((member) => member.op._tag === "Txn")
  return Op.txn({
    then: members.map((member) => member.op),
    else: hidesPuts ? first.footprint.writes.slice(0, 1).map((key) => Op.put(key, "")) : []
  })
}

type Failure = Exit.Failure<unknown, KvError.KvError>

const withDeadline = (context: Context.Context<never>, deadline: Duration.Duration): Context.Context<never> =>
  Context.add(context, Deadline.Deadline, deadline)

const remaining = (members: ReadonlyArray<BatchMember>): Duration.Duration =>
  Duration.millis(Math.max(1, Math.max(...members.map(({ endsAt }) => endsAt)) - now(members[0]!)))

/**
 * Whether the store may have rejected the batch because of one of its operations. Nothing was executed, so the
 * operations can be sent again in smaller batches.
 */
export const isSplittable = (exit: Failure): boolean => {
  switch (notApplied(exit)?._tag) {
    case "InvalidRequest":
    case "RequestTooLarge":
    case "PermissionDenied":
    case "LeaseNotFound":
      return true
    default:
      return false
  }
}

/** Whether the backend cancelled the request before it was sent, because one of its callers had gone. */
export const wasCancelled = (sendControl: SendControl.SendControl, exit: Failure): boolean =>
  sendControl.wasCancelled && !sendControl.mayHaveBeenSent && notApplied(exit) !== undefined

/** The reason of a failure that is certain to have changed nothing. */
const notApplied = (
  { cause: { reasons } }: Failure
): KvError.Reason | undefined => {
  const [reason] = reasons
  return reasons.length === 1 && reason?._tag === "Fail" && reason.error.outcome === "NotApplied"
    ? reason.error.reason
    : undefined
}

/** The failure of a member whose deadline passed while it was queued. */
export const notSent = (member: BatchMember): KvError.Reason =>
  new KvError.DeadlineExceeded({
    message: `not sent within ${Duration.format(member.deadline)}: ` +
      "the store had not responded to earlier requests"
  })

/** The failure of a member whose deadline passed while its batch was in flight. `why` is the last failure of the batch. */
export const noResponse = (
  member: BatchMember,
  mayHaveBeenSent: boolean,
  why: KvError.Reason | undefined
): KvError.Reason => {
  const within = `within ${Duration.format(member.deadline)}`
  const details = why === undefined ? "" : ` (${why.message})`
  if (!mayHaveBeenSent) return new KvError.Unavailable({ message: `could not be sent ${within}${details}` })
  const message = `no response ${within}${details}`
  return member.footprint.kind === "read"
    ? new KvError.DeadlineExceeded({ message })
    : new KvError.Indeterminate({ message: `${message}; it was sent and may have been executed` })
}
