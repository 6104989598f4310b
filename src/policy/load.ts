import type { DetailedError, PolicyJson, Policy as PolicyText } from '@cedar-policy/cedar-wasm/nodejs'
import { readTextFiles } from '../config/folder.ts'
import type { Problem } from '../config/problem.ts'
import { cedar, createPolicy } from './cedar.ts'
import type { Policy } from './decision.ts'
import { footprintOf } from './footprint.ts'

export interface LoadedPolicy {
  /** Undefined when there are problems. */
  readonly policy?: Policy
  readonly problems: readonly Problem[]
  /** Ids of the policies, in order. */
  readonly ids: readonly string[]
}

/** Offsets of Cedar count bytes. */
const lineAt = (text: string, offset: number): number =>
  Buffer.from(text).subarray(0, offset).toString('utf8').split('\n').length

const toProblem = (file: string, error: DetailedError, line: number): Problem => ({
  file,
  line,
  message: error.message,
  fix: error.help ?? 'Correct the policy; docs/policy.md shows what policies can say.',
})

interface Part {
  readonly id: string
  readonly file: string
  readonly line: number
  readonly text: string
  readonly json: PolicyJson | undefined
}

/** The single policies of a file. An id is the `@id` annotation, else the file's name and the policy's number in it. */
const partsOf = (file: string, text: string): { parts: Part[]; problems: Problem[] } => {
  const parsed = cedar.policySetTextToParts(text)
  if (parsed.type === 'failure') {
    return {
      parts: [],
      problems: parsed.errors.map((error) =>
        toProblem(file, error, lineAt(text, error.sourceLocations?.[0]?.start ?? 0)),
      ),
    }
  }
  const problems: Problem[] = parsed.policy_templates.map((template) => ({
    file,
    line: lineOf(text, template),
    message: 'A template (?principal, ?resource) decides nothing by itself.',
    fix: 'Write a policy for each case.',
  }))
  const located = parsed.policies
    .map((policy) => ({ policy, line: lineOf(text, policy) }))
    .sort((a, b) => a.line - b.line)
  const parts = located.map(({ policy, line }, at) => {
    const read = cedar.policyToJson(policy)
    const json = read.type === 'success' ? read.json : undefined
    return { id: json?.annotations?.['id'] ?? `${file}#${at + 1}`, file, line, text: policy, json }
  })
  return { parts, problems }
}

const lineOf = (text: string, part: string): number =>
  lineAt(text, Buffer.byteLength(text.slice(0, Math.max(0, text.indexOf(part)))))

/**
 * Reads `*.cedar` of a folder, checks each policy strictly against the schema and preparses them.
 * @param options.set name under which the policies are kept; loading the same name again replaces them, so names should alternate
 * @param options.schema text of `schema.cedarschema`
 */
export const loadPolicies = async (options: { folder: string; set: string; schema: string }): Promise<LoadedPolicy> => {
  const problems: Problem[] = []
  const parts: Part[] = []
  for (const { file, text } of await readTextFiles(
    { folder: options.folder, shownAs: 'policies/access', isWanted: (name) => name.endsWith('.cedar') },
    problems,
  )) {
    const read = partsOf(file, text)
    problems.push(...read.problems)
    for (const part of read.parts) {
      const twin = parts.find(({ id }) => id === part.id)
      if (twin !== undefined)
        problems.push({
          file: part.file,
          line: part.line,
          message: `The id ${part.id} is taken by ${twin.file}:${twin.line}.`,
          fix: 'Give every policy its own @id.',
        })
      else parts.push(part)
    }
  }
  const policies: Record<string, PolicyText> = Object.fromEntries(parts.map(({ id, text }) => [id, text]))
  const checked = cedar.validate({
    schema: options.schema,
    policies: { staticPolicies: policies },
    validationSettings: { mode: 'strict' },
  })
  if (checked.type === 'failure')
    problems.push(...checked.errors.map((error) => toProblem('policies/access', error, 1)))
  else
    for (const { policyId, error } of checked.validationErrors) {
      const part = parts.find(({ id }) => id === policyId)
      problems.push(
        toProblem(
          part?.file ?? 'policies/access',
          { ...error, message: `${policyId}: ${error.message}` },
          part?.line ?? 1,
        ),
      )
    }
  const ids = parts.map(({ id }) => id)
  if (problems.length > 0) return { problems, ids }
  const preparsed = cedar.preparsePolicySet(options.set, { staticPolicies: policies })
  if (preparsed.type === 'failure')
    problems.push(...preparsed.errors.map((error) => toProblem('policies/access', error, 1)))
  const forms = parts.flatMap(({ json }) => json ?? [])
  if (forms.length < parts.length)
    problems.push({
      file: 'policies/access',
      line: 1,
      message: 'A policy has no JSON form.',
      fix: 'Write it with the expressions that docs/policy.md shows.',
    })
  return problems.length > 0
    ? { problems, ids }
    : { problems, ids, policy: createPolicy(options.set, footprintOf(forms)) }
}
