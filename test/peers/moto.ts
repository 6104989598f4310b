/**
 * A real moto: AWS's services as a server on a loopback port, asked by the SDK unchanged.
 * 1. `findMoto()` says whether the machine has one; if not, loudly.
 * 2. `startMoto()` starts it, empty.
 * 3. `secretsInMoto()` is another writer of its secrets.
 */
import {
  CreateSecretCommand,
  DeleteSecretCommand,
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
  UpdateSecretVersionStageCommand,
} from '@aws-sdk/client-secrets-manager'
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, stopProcess } from '../support/process.ts'
import { findProgram } from './programs.ts'

export const findMoto = (): string | undefined => findProgram('moto', 'moto_server')

export interface Moto {
  readonly url: string
  close(): Promise<void>
}

export const startMoto = async (program: string): Promise<Moto> => {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const child = spawn(program, ['-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' })
  const close = () => stopProcess(child, 'SIGKILL')
  for (let attempt = 0; ; attempt += 1) {
    try {
      await (await fetch(`${url}/moto-api/`)).body?.cancel()
      return { url, close }
    } catch (error) {
      if (attempt === 600) {
        await close()
        throw error
      }
      await sleep(50)
    }
  }
}

const KEYS = { accessKeyId: 'test', secretAccessKey: 'test' }

/** Secrets Manager as moto has it, for another writer than Deputy. @param credentials moto takes the account from them */
export const secretsInMoto = ({ url }: Moto, credentials: { accessKeyId: string; secretAccessKey: string } = KEYS) => {
  const client = new SecretsManagerClient({ region: 'eu-central-1', endpoint: url, credentials })
  const known = new Set<string>()
  return {
    client,
    async put(id: string, value: string): Promise<void> {
      if (!known.has(id)) {
        await client.send(new CreateSecretCommand({ Name: id, SecretString: value }))
        known.add(id)
        return
      }
      // In two steps: moto leaves AWSCURRENT where it is as well when it was moved before; AWS moves it with the value.
      const given = await client.send(
        new PutSecretValueCommand({ SecretId: id, SecretString: value, VersionStages: ['OF_A_PERSON'] }),
      )
      const { VersionIdsToStages: stages = {} } = await client.send(new DescribeSecretCommand({ SecretId: id }))
      await client.send(
        new UpdateSecretVersionStageCommand({
          SecretId: id,
          VersionStage: 'AWSCURRENT',
          MoveToVersionId: given.VersionId,
          RemoveFromVersionId: Object.keys(stages).find((each) => stages[each]!.includes('AWSCURRENT')),
        }),
      )
    },
    async text(id: string): Promise<string> {
      // Without a label moto gives the first version, and AWS the current one.
      return (await client.send(new GetSecretValueCommand({ SecretId: id, VersionStage: 'AWSCURRENT' }))).SecretString!
    },
    async remove(id: string): Promise<void> {
      await client.send(new DeleteSecretCommand({ SecretId: id, ForceDeleteWithoutRecovery: true }))
      known.delete(id)
    },
    close() {
      client.destroy()
    },
  }
}
