// Configurations as Python's tools want to read them: they take 4 for an integer and refuse it where a
// float belongs, but JavaScript has one kind of number.

/** Fields of config.json and generation_config.json whose values are floats. */
const FLOATS = `rms_norm_eps layer_norm_epsilon initializer_range attn_logit_softcapping
  final_logit_softcapping resid_pdrop embd_pdrop attn_pdrop attention_dropout rope_theta factor
  low_freq_factor high_freq_factor attention_factor temperature top_p min_p top_h typical_p
  epsilon_cutoff eta_cutoff repetition_penalty encoder_repetition_penalty length_penalty
  diversity_penalty guidance_scale penalty_alpha`.split(/\s+/);

const WHOLE_FLOAT = new RegExp(`^( *"(?:${FLOATS.join("|")})": -?\\d+)(?=,?$)`, "gm");

/** The text of a configuration file. */
export function configJson(config: object): string {
  return `${JSON.stringify(config, null, 2).replace(WHOLE_FLOAT, "$1.0")}\n`;
}
