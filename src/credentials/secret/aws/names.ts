import { pathFor } from '#config'
import { refuse } from '#errors'

/**
 * With an ARN, AWS takes a hyphen and six characters at the end for those that it has added to the name of a secret
 * (https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen), so that
 * `acme-Ab12Cd` could lead to the secret of `acme`.
 */
const LOOKS_COMPLETE = /-[A-Za-z0-9]{6}$/

/**
 * Name, or ARN, of a tenant's secret. @throws DeputyError `secret_backend_refused` for one that could be the ARN of
 * another secret
 */
export const secretIdOf = (backend: string, template: string, tenant: string, name: string): string => {
  const id = pathFor(template, tenant, name)
  if (id.startsWith('arn:') && LOOKS_COMPLETE.test(id))
    throw refuse('secret_backend_refused', {
      backend,
      problem: `the ARN of the secret ${name} of ${tenant} would end in a hyphen and six characters, which AWS may take for another secret; rename it, or name secrets without an ARN`,
      status: 400,
    })
  return id
}

/** What a merged version's id ends with: a digest of what it was merged with. */
const MERGED = /^(.{32,42})-with-([0-9a-f]{16})$/
const MAX_TOKEN_LENGTH = 42

/** What a version was staged under. */
export const tokenOf = (version: string): string => MERGED.exec(version)?.[1] ?? version

/** The id of what is staged under a token, merged with another version: the same two have the same one. */
export const mergedId = (token: string, digest: (text: string) => string, base: string): string =>
  `${token.length <= MAX_TOKEN_LENGTH ? token : digest(token).slice(0, 32)}-with-${digest(base).slice(0, 16)}`
