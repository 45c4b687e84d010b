/**
 * A finding of `doctor`: what works or is wrong, and what to do about it.
 */

/** `Ok`: checked, and well. `Warning`: works, but will not always. `Problem`: something does not work. */
export type Severity = "Ok" | "Warning" | "Problem"

export interface Finding {
  /** Names the kind of finding, for scripts. */
  readonly code: string
  readonly severity: Severity
  readonly message: string
  /** What to do. Empty if all is well. */
  readonly advice: string
}

export const ok = (code: string, message: string): Finding => ({ code, severity: "Ok", message, advice: "" })

export const warning = (code: string, message: string, advice: string): Finding => ({
  code,
  severity: "Warning",
  message,
  advice
})

export const problem = (code: string, message: string, advice: string): Finding => ({
  code,
  severity: "Problem",
  message,
  advice
})

const labels: Readonly<Record<Severity, string>> = { Ok: "ok", Warning: "WARNING", Problem: "PROBLEM" }

/** The findings as text, in the order in which they were made. */
export const text = (findings: ReadonlyArray<Finding>): string =>
  findings.flatMap(({ advice, message, severity }) => [
    `${labels[severity].padEnd(9)}${message}`,
    ...advice === "" ? [] : [`${" ".repeat(9)}=> ${advice}`]
  ]).join("\n")
