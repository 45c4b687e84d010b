/**
 * The problem that a schema found, in words that contain no part of the value.
 *
 * Effect's own formatters show custom messages and the keys of records, and both may come from the value.
 */
import type * as SchemaAST from "effect/SchemaAST"
import type * as SchemaIssue from "effect/SchemaIssue"

/** How a path continues with the next name. `parent` is the schema whose fields the name may be one of. */
export type Step = (path: string, name: PropertyKey, parent: SchemaAST.AST | undefined) => string

export interface Problem {
  /** Where it is, as the steps made it; empty for the whole. */
  readonly path: string
  readonly problem: string
}

export const describeIssue = (issue: SchemaIssue.Issue): string => describeProblems(problemsOf(issue, bracketed))

export const describeProblems = (problems: ReadonlyArray<Problem>): string => {
  const all = [...new Set(problems.map(({ path, problem }) => path === "" ? problem : `${path}: ${problem}`))]
  const shown = all.slice(0, maxProblems).join("; ")
  return all.length > maxProblems ? `${shown}; and ${all.length - maxProblems} more` : shown
}

const maxProblems = 3

export const problemsOf = (issue: SchemaIssue.Issue, step: Step): ReadonlyArray<Problem> =>
  problems(issue, step, "", undefined)

const problems = (
  issue: SchemaIssue.Issue,
  step: Step,
  path: string,
  parent: SchemaAST.AST | undefined
): ReadonlyArray<Problem> => {
  const at = (problem: string): ReadonlyArray<Problem> => [{ path, problem }]
  switch (issue._tag) {
    case "Pointer":
      return problems(
        issue.issue,
        step,
        issue.path.reduce<string>((path, name, index) => step(path, name, index === 0 ? parent : undefined), path),
        undefined
      )
    case "Composite":
      return issue.issues.flatMap((inner) => problems(inner, step, path, issue.ast))
    case "AnyOf":
      return issue.issues.length === 0
        ? at(`expected ${expectedOf(issue.ast)}`)
        : issue.issues.flatMap((inner) => problems(inner, step, path, parent))
    case "Encoding":
      // The forms in which JSON represents a type are of no interest.
      return issue.issue._tag === "Composite" || issue.issue._tag === "Pointer"
        ? problems(issue.issue, step, path, parent)
        : at(`expected ${expectedOf(issue.ast)}`)
    case "Filter": {
      const expected = issue.filter.annotations?.expected
      return at(typeof expected === "string" ? `expected ${expected}` : "a check of the schema failed")
    }
    case "MissingKey":
      return at("missing")
    case "UnexpectedKey":
      return at("unexpected")
    case "InvalidType":
      return at(`expected ${expectedOf(issue.ast)}`)
    case "OneOf":
      return at("more than one member of the union matches")
    case "Forbidden":
    case "InvalidValue":
      return at("not valid")
  }
}

/** Only indexes and fields that the schema declares are shown: any other name may come from the value. */
const bracketed: Step = (path, name, parent) =>
  path + (isFromSchema(name, parent) ? `[${typeof name === "string" ? JSON.stringify(name) : String(name)}]` : "[*]")

/** Whether the name is an index, or a field that the schema declares. */
export const isFromSchema = (name: PropertyKey, parent: SchemaAST.AST | undefined): boolean =>
  typeof name === "number" ||
  parent?._tag === "Objects" && parent.propertySignatures.some((field) => field.name === name)

const expectedOf = (ast: SchemaAST.AST): string => {
  const { expected, identifier } = ast.annotations ?? {}
  if (typeof identifier === "string") return identifier
  return names[ast._tag] ?? (typeof expected === "string" ? expected : "another type")
}

const names: { readonly [Tag in SchemaAST.AST["_tag"]]?: string } = {
  String: "a string",
  Number: "a number",
  Boolean: "a boolean",
  BigInt: "a bigint",
  Null: "null",
  Objects: "an object",
  Arrays: "an array",
  Literal: "a literal of the schema",
  Enum: "a member of the enum",
  TemplateLiteral: "text that fits the template",
  Union: "a member of the union",
  Never: "nothing"
}
