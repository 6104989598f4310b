import type { DetailedError, PolicyJson, Policy as PolicyText } from '@cedar-policy/cedar-wasm/nodejs'
import { type Problem, readTextFiles } from '#config'
import { didYouMean } from '#foundation/text'
import { cedar, createPolicy } from './cedar.ts'
import type { Policy } from './decision.ts'
import { footprintOf } from './footprint.ts'
import { forbidsAll, unknownNames, type ExistingNames } from './named.ts'

/** As messages show it. */
const FOLDER = 'policies/access'

export interface LoadedPolicy {
  /** Undefined when there are problems. */
  readonly policy?: Policy
  readonly problems: readonly Problem[]
  /** What is allowed, and hardly meant. */
  readonly warnings: readonly Problem[]
  /** Ids of the policies, in order. */
  readonly ids: readonly string[]
  /** Text of each policy by its id. */
  readonly texts: Readonly<Record<string, string>>
}

/** A place in a file, by an offset that counts bytes, as Cedar's do. */
const placeAt = (text: string, offset: number): Pick<Problem, 'line' | 'column' | 'excerpt'> => {
  const before = Buffer.from(text).subarray(0, offset).toString('utf8').split('\n')
  const line = before.length
  const excerpt = text.split('\n')[line - 1]!.trim()
  return {
    line,
    column: before.at(-1)!.length + 1,
    ...(excerpt === '' ? {} : { excerpt: excerpt.length > 120 ? `${excerpt.slice(0, 117)}...` : excerpt }),
  }
}

const SEE = 'Correct the policy; docs/policy.md shows what policies can say.'

/** What policies may read of the request (`context`), by the schema. */
const CONTEXT = ['scopes', 'workload', 'tenant', 'tool', 'operation', 'environment', 'narrows', 'acr', 'client', 'time']

/** What Cedar says, without what its caller knows: the policy's id, and the one action of many for which it says so. */
const wordsOf = ({ message, help }: DetailedError): { message: string; fix: string } => {
  const clean = message
    .replace(/^for policy `[^`]*`, /, '')
    .replace(/^failed to parse policy with id `[^`]*` from string: /, '')
  const attribute = /^attribute `([^`]*)` in context for \S+ not found/.exec(clean)?.[1]
  if (attribute !== undefined)
    return {
      message: `The context has no attribute ${attribute}.`,
      fix: didYouMean(attribute, CONTEXT) || `It has: ${CONTEXT.join(', ')}.`,
    }
  const detail = help?.replace(/^for policy `[^`]*`, /, '')
  return {
    message: `${clean.charAt(0).toUpperCase()}${clean.slice(1)}.`,
    fix: detail === undefined ? SEE : `${detail.charAt(0).toUpperCase()}${detail.slice(1).replace(/\.?$/, '')}.`,
  }
}

/** @param base where the policy begins in its file, in bytes */
const toProblem = (file: string, text: string, error: DetailedError, base = 0): Problem => ({
  file,
  ...placeAt(text, base + (error.sourceLocations?.[0]?.start ?? 0)),
  ...wordsOf(error),
})

/** One mistake is one problem, however many kinds of credential it is a mistake for. */
const once = (problems: readonly Problem[]): Problem[] => [
  ...new Map(problems.map((each) => [`${each.file}:${each.line}:${each.column}:${each.message}`, each])).values(),
]

interface Part {
  readonly id: string
  readonly file: string
  /** Of its file, and where it begins there, in bytes. */
  readonly fileText: string
  readonly start: number
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
      problems: once(parsed.errors.map((error) => toProblem(file, text, error))),
    }
  }
  const problems: Problem[] = parsed.policy_templates.map((template) => ({
    file,
    ...placeAt(text, startOf(text, template)),
    message: 'A template (?principal, ?resource) decides nothing by itself.',
    fix: 'Write a policy for each case.',
  }))
  const located = parsed.policies
    .map((policy) => ({ policy, start: startOf(text, policy) }))
    .sort((a, b) => a.start - b.start)
  const parts = located.map(({ policy, start }, at) => {
    const read = cedar.policyToJson(policy)
    const json = read.type === 'success' ? read.json : undefined
    return {
      id: json?.annotations?.['id'] ?? `${file}#${at + 1}`,
      file,
      fileText: text,
      start,
      line: placeAt(text, start).line,
      text: policy,
      json,
    }
  })
  return { parts, problems }
}

const startOf = (text: string, part: string): number =>
  Buffer.byteLength(text.slice(0, Math.max(0, text.indexOf(part))))

/** The part that an error is about: Cedar names it by its id, in a field or in its words. */
const partOf = (parts: readonly Part[], error: DetailedError, policyId?: string): Part | undefined => {
  const id = policyId ?? /policy with id `([^`]*)`/.exec(error.message)?.[1]
  return parts.find((part) => part.id === id)
}

const atPart = (part: Part | undefined, error: DetailedError): Problem =>
  part === undefined
    ? { file: FOLDER, line: 1, ...wordsOf(error) }
    : toProblem(part.file, part.fileText, error, part.start)

const ownPlace = ({ file, fileText, start }: Part): Pick<Problem, 'file' | 'line' | 'column' | 'excerpt'> => ({
  file,
  ...placeAt(fileText, start),
})

/** Policies that Cedar takes, and that do not do what their author meant. */
const warningsAbout = (parts: readonly Part[], existing: ExistingNames | undefined): Problem[] =>
  parts.flatMap((part) => {
    const { json, file, fileText, start, text } = part
    if (json === undefined) return []
    const names = existing === undefined ? [] : unknownNames(json, existing)
    return [
      ...names.map(({ text: name, message, fix }) => ({
        file,
        ...placeAt(fileText, start + startOf(text, name)),
        message,
        fix,
      })),
      ...(forbidsAll(json)
        ? [
            {
              ...ownPlace(part),
              message: 'The policy forbids everything to everybody, so no other policy has any effect.',
              fix: 'Add a condition, or remove it; `deputy tenant freeze` stops a tenant for a while.',
            },
          ]
        : []),
    ]
  })

/** What the schema says against the policies, and what it says of policies that can never apply. */
const validate = (schema: string, parts: readonly Part[]): { problems: Problem[]; warnings: Problem[] } => {
  const policies: Record<string, PolicyText> = Object.fromEntries(parts.map(({ id, text }) => [id, text]))
  const checked = cedar.validate({
    schema,
    policies: { staticPolicies: policies },
    validationSettings: { mode: 'strict' },
  })
  if (checked.type === 'failure')
    return { problems: once(checked.errors.map((error) => atPart(partOf(parts, error), error))), warnings: [] }
  const impossible = new Set(checked.validationWarnings.map(({ policyId }) => policyId))
  const wrong = new Set(checked.validationErrors.map(({ policyId }) => policyId))
  return {
    problems: once(
      checked.validationErrors.map(({ policyId, error }) => atPart(partOf(parts, error, policyId), error)),
    ),
    warnings: parts
      .filter(({ id }) => impossible.has(id) && !wrong.has(id))
      .map((part) => ({
        ...ownPlace(part),
        message: 'The policy never applies: no request can be as it says.',
        fix: 'Correct its conditions, or remove it.',
      })),
  }
}

/**
 * Reads `*.cedar` of a folder, checks each policy strictly against the schema and preparses them.
 * @param options.set name under which the policies are kept; loading the same name again replaces them, so names should alternate
 * @param options.schema text of `schema.cedarschema`
 * @param options.existing the names that the policies may use; any other name is a warning
 */
export const loadPolicies = async (options: {
  folder: string
  set: string
  schema: string
  existing?: ExistingNames
}): Promise<LoadedPolicy> => {
  const problems: Problem[] = []
  const parts: Part[] = []
  for (const { file, text } of await readTextFiles(
    { folder: options.folder, shownAs: FOLDER, isWanted: (name) => name.endsWith('.cedar') },
    problems,
  )) {
    const read = partsOf(file, text)
    problems.push(...read.problems)
    for (const part of read.parts) {
      const twin = parts.find(({ id }) => id === part.id)
      if (twin === undefined) parts.push(part)
      else
        problems.push({
          ...ownPlace(part),
          message: `The id ${part.id} is taken by ${twin.file}:${twin.line}.`,
          fix: 'Give every policy its own @id.',
        })
    }
  }
  const checked = validate(options.schema, parts)
  problems.push(...checked.problems)
  const warnings = [...checked.warnings, ...warningsAbout(parts, options.existing)]
  const ids = parts.map(({ id }) => id)
  const texts = Object.fromEntries(parts.map(({ id, text }) => [id, text]))
  if (problems.length > 0) return { problems, warnings, ids, texts }
  const preparsed = cedar.preparsePolicySet(options.set, { staticPolicies: texts })
  if (preparsed.type === 'failure')
    problems.push(...once(preparsed.errors.map((error) => atPart(partOf(parts, error), error))))
  const forms = parts.flatMap(({ json }) => json ?? [])
  const formless = parts.find(({ json }) => json === undefined)
  if (formless !== undefined)
    problems.push({
      ...ownPlace(formless),
      message: 'The policy has no JSON form.',
      fix: 'Write it with the expressions that docs/policy.md shows.',
    })
  return problems.length > 0
    ? { problems, warnings, ids, texts }
    : { problems, warnings, ids, texts, policy: createPolicy(options.set, footprintOf(forms)) }
}
