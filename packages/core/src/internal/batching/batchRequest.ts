/**
 * How the operations of a batch are asked for, and what a failure of all of them says of each.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Tracer from "effect/Tracer"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as SendControl from "../../backend/SendControl.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { type Member, now } from "./batchMember.ts"

/** A request, and what it is made with. What a backend throws is its defect, so none of it may run before the effect does. */
export interface Request {
  readonly effect: Effect.Effect<ReadonlyArray<Op.Response>, KvError.KvError>
  readonly context: Context.Context<never>
}

/** One operation as it is, in what is left of its time. */
export const alone = (backend: KvBackend, member: Member): Request => ({
  effect: Effect.map(Effect.suspend(() => backend.execute(member.op)), (response) => [response]),
  context: withDeadline(member.fiber.context, remaining([member]))
})

/** Several as one transaction. It has the time of the most patient, and nobody's span. */
export const together = (
  backend: KvBackend,
  members: ReadonlyArray<Member>,
  sendControl: SendControl.SendControl
): Request => ({
  effect: Effect.map(
    Effect.suspend(() => execute(backend, transaction(members))),
    (response) => response.responses
  ),
  context: Context.add(
    withDeadline(Context.omit(Tracer.ParentSpan)(members[0]!.fiber.context), remaining(members)),
    SendControl.Current,
    sendControl
  )
})

/**
 * A full etcd refuses transactions with puts, but overlooks those in nested ones. So where there are no others, one is put
 * where it never runs: under `else`, of a transaction without conditions.
 */
const transaction = (members: ReadonlyArray<Member>): Op.Txn => {
  const [first] = members
  const hides = first?.footprint.lane === "put" && members.every((member) => member.op._tag === "Txn")
  return Op.txn({
    then: members.map((member) => member.op),
    else: hides ? first.footprint.writes.slice(0, 1).map((key) => Op.put(key, "")) : []
  })
}

type Failure = Exit.Failure<unknown, KvError.KvError>

const withDeadline = (context: Context.Context<never>, deadline: Duration.Duration): Context.Context<never> =>
  Context.add(context, Deadline.Deadline, deadline)

const remaining = (members: ReadonlyArray<Member>): Duration.Duration =>
  Duration.millis(Math.max(1, Math.max(...members.map(({ endsAt }) => endsAt)) - now(members[0]!)))

/**
 * Whether the store refused all for what may be the fault of one: then each can be asked for again, because it is certain
 * that nothing was carried out.
 */
export const isFaultOfOne = (exit: Failure): boolean => {
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

/** Whether the backend called it off, because somebody had gone, before it was sent. */
export const wasCancelled = (sendControl: SendControl.SendControl, exit: Failure): boolean =>
  sendControl.wasCancelled && !sendControl.mayHaveBeenSent && notApplied(exit) !== undefined

/** The reason of a call that is certain to have changed nothing. */
const notApplied = (
  { cause: { reasons } }: Failure
): KvError.Reason | undefined => {
  const [reason] = reasons
  return reasons.length === 1 && reason?._tag === "Fail" && reason.error.outcome === "NotApplied"
    ? reason.error.reason
    : undefined
}

/** For a member whose deadline passed while it waited in line. */
export const neverSent = (member: Member): KvError.Reason =>
  new KvError.DeadlineExceeded({
    message: `not sent within ${Duration.format(member.deadline)}: ` +
      "the store had not answered what was sent before"
  })

/** For a member whose deadline passed before its transaction was answered. */
export const noAnswer = (member: Member, mayHaveBeenSent: boolean): KvError.Reason => {
  const within = `within ${Duration.format(member.deadline)}`
  if (!mayHaveBeenSent) return new KvError.Unavailable({ message: `could not be sent ${within}` })
  const message = `no answer ${within}`
  return member.footprint.lane === "read"
    ? new KvError.DeadlineExceeded({ message })
    : new KvError.Indeterminate({ message: `${message}; it was sent and may have been carried out` })
}
