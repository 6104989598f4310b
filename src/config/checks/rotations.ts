import { didYouMean, ownValue } from '#foundation/text'
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import {
  DATA_KEY_GRACE,
  isOwnKeys,
  OWN_BACKEND,
  overlaps,
  type RotationPolicy,
  tenantOfDataKey,
} from '../rotation-policy.ts'
import type { Settings } from '../settings.ts'
import type { Located } from '../yaml-file.ts'
import { EMBEDDED } from './backends.ts'
import { list, problemsOf, unknownTenants } from './names.ts'

/** The shortest time between two versions of a secret (ms): https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html */
const MIN_AWS_INTERVAL_MS = 600_000

/** Policies above this one that cover secrets of this one. */
const checkOverlaps = (located: Located<RotationPolicy>, seen: readonly Located<RotationPolicy>[]): Problem[] =>
  seen
    .filter((each) => overlaps(each.value, located.value))
    .map((twin) =>
      problemsOf(located)(
        ['secrets', 'name'],
        `${located.value.rotation} and ${twin.value.rotation} (${twin.file}) cover the same secrets, so it is undecided which of them applies.`,
        'Narrow the name or the tenants of one of the two.',
      ),
    )

/** Deputy's own keys: the rotator and the backend go together, and the keys belong to no tenant. */
const checkOwnKeys = (located: Located<RotationPolicy>): Problem[] => {
  const { secrets, how, grace } = located.value
  const problem = problemsOf(located)
  const problems: Problem[] = []
  const isOwn = how.rotator === 'deputy_keys'
  if (isOwn !== (secrets.backend === OWN_BACKEND) || (isOwn && !isOwnKeys(secrets.name)))
    problems.push(
      problem(
        ['secrets', 'name'],
        "The rotator deputy_keys and the backend deputy go together, for one of Deputy's own keys.",
        `Write secrets: { backend: ${OWN_BACKEND}, name: signing-keys }, or key-encryption-key, or data-key.* for the data keys of all tenants.`,
      ),
    )
  if (isOwn && tenantOfDataKey(secrets.name) !== undefined && grace < DATA_KEY_GRACE)
    problems.push(
      problem(
        ['grace'],
        'A data key that was replaced is needed until every node has read the next one.',
        'Write 5m or more.',
      ),
    )
  if (isOwn && secrets.tenants !== '*')
    problems.push(
      problem(
        ['secrets', 'tenants'],
        "Deputy's own keys belong to no tenant.",
        'Leave `tenants` out; the data key of one tenant is named data-key.<tenant>.',
      ),
    )
  return problems
}

/** What the backend of the secrets cannot do: be searched, or take a version so soon. */
const checkBackend = (located: Located<RotationPolicy>, { backends }: Settings['secrets']): Problem[] => {
  const { secrets, when } = located.value
  const { backend } = secrets
  const problem = problemsOf(located)
  const problems: Problem[] = []
  if (backend !== EMBEDDED && backend !== OWN_BACKEND && secrets.name.includes('*'))
    problems.push(
      problem(
        ['secrets', 'name'],
        `Deputy does not search the backend ${backend} for secrets, so a policy names one secret.`,
        'Write the name of the secret, and a policy for each.',
      ),
    )
  if (ownValue(backends, backend)?.kind === 'aws' && when.every !== undefined && when.every < MIN_AWS_INTERVAL_MS)
    problems.push(
      problem(
        ['when', 'every'],
        'AWS Secrets Manager keeps 100 versions, and allows at most one new version in ten minutes.',
        'Write 10m or more.',
      ),
    )
  return problems
}

/** Settings of one policy that exclude each other. */
const checkTimes = (located: Located<RotationPolicy>): Problem[] => {
  const { when, grace } = located.value
  const { every, max_age: maxAge, jitter } = when
  const problem = problemsOf(located)
  const problems: Problem[] = []
  if (every !== undefined && maxAge !== undefined && maxAge < every)
    problems.push(
      problem(
        ['when', 'max_age'],
        'max_age is below every: each secret would be overdue before its next rotation.',
        'Write a max_age above every, or leave it out.',
      ),
    )
  if (grace > Math.min(every ?? Infinity, maxAge ?? Infinity))
    problems.push(
      problem(
        ['grace'],
        'grace is longer than the time between two rotations: the old one would still work when the next one begins.',
        'Write a shorter grace, or let the secret rotate less often.',
      ),
    )
  if (every !== undefined && jitter > every)
    problems.push(problem(['when', 'jitter'], 'jitter is longer than every.', 'Write a jitter below every.'))
  return problems
}

/** The command of a policy: deputy.yaml must allow it. */
const checkCommand = (located: Located<RotationPolicy>, { commands }: Settings['rotation']): Problem[] => {
  const { how } = located.value
  if (how.rotator !== 'command' || Object.hasOwn(commands, how.command)) return []
  const names = Object.keys(commands)
  return [
    problemsOf(located)(
      ['how', 'command'],
      `deputy.yaml allows no command ${how.command}.`,
      didYouMean(how.command, names) || `Add it under rotation.commands; allowed: ${list(names)}.`,
    ),
  ]
}

/** Every rotation policy, by itself and against the policies before it. */
export const checkRotations = ({ rotations, tenants, settings }: Loaded): Problem[] => {
  const all = [...rotations.values()]
  return all.flatMap((located, at) => [
    ...checkOverlaps(located, all.slice(0, at)),
    ...checkOwnKeys(located),
    ...checkBackend(located, settings.value.secrets),
    ...checkTimes(located),
    ...unknownTenants(located, located.value.secrets.tenants, tenants, ['secrets', 'tenants']),
    ...checkCommand(located, settings.value.rotation),
  ])
}
