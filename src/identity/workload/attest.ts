import type { Random } from '#clock'
import type { Server, Snapshot } from '#config'
import { asDeputyError, type DeputyError, refuse } from '#errors'
import type { UnknownCallerStore } from '#foundation/store'
import type { Telemetry } from '#foundation/telemetry'
import type { AttestedWorkload } from './attestor.ts'
import type { CallerEvidence } from './caller-evidence.ts'
import { createClientSecretCheck } from './client-secret.ts'
import { methodOf, type ProofDependencies, proveWorkload } from './prove.ts'
import { isInUse } from './registry.ts'
import { createUnknownRecorder } from './unknown-caller.ts'

/** Proves which workload calls; made by `createAttestor`. */
export type Attest = (evidence: CallerEvidence, snapshot: Snapshot) => Promise<AttestedWorkload>

/**
 * Attestation: by a client assertion, else by a client secret, else by the kernel's facts about the process: that
 * `deputy exec` has started it, or that a selector fits it. A server is looked up in the snapshot anew each time, so that
 * one that was retired a moment ago gets nothing (threat 15).
 * A caller that proves nothing is recorded with everything that is known about it: that is how shadow servers are found.
 */
export const createAttestor = (
  options: Omit<ProofDependencies, 'checkSecret'> & {
    readonly unknownCallers: UnknownCallerStore
    readonly random: Random
    readonly telemetry: Telemetry
  },
): Attest => {
  const { telemetry } = options
  const deps: ProofDependencies = { ...options, checkSecret: createClientSecretCheck(options.random) }
  const recordUnknown = createUnknownRecorder(options.unknownCallers, options.clock)

  return async (evidence, snapshot) => {
    try {
      const { server, method, session } = await proveWorkload(deps, evidence, snapshot)
      assertApproved(server)
      telemetry.attestation({ method, outcome: 'verified' })
      const warning = warningOf(server)
      return {
        server,
        method,
        ...(session === undefined ? {} : { session }),
        ...(evidence.peer === undefined ? {} : { peer: evidence.peer }),
        ...(warning === undefined ? {} : { warning }),
      }
    } catch (thrown) {
      const error = asDeputyError(thrown)
      telemetry.attestation({ method: methodOf(evidence), outcome: 'refused', error: error.code })
      if (isUnproved(error)) await recordUnknown(evidence)
      throw error
    }
  }
}

const isUnproved = ({ code }: DeputyError): boolean =>
  code === 'workload_unknown' || code === 'workload_unverified' || code === 'workload_ambiguous'

/** @throws DeputyError `workload_not_approved` for a proposed or retired server */
export const assertApproved = (registered: Server): void => {
  if (isInUse(registered)) return
  const { server, status, owner, replaced_by: replacement } = registered
  throw refuse('workload_not_approved', {
    server,
    status,
    owner,
    replacement: replacement === undefined ? '' : `, or use ${replacement}`,
  })
}

/** The warning for a deprecated server, in its answers; undefined for every other. */
export const warningOf = ({ server, status, replaced_by: replacement }: Server): string | undefined =>
  status !== 'deprecated'
    ? undefined
    : `${server} is deprecated${replacement === undefined ? '' : `; move to ${replacement}`}`
