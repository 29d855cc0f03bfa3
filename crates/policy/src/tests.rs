use super::*;

const CONFIG: &str = r"
models:
  - {name: small, endpoints: ['http://a:1'], context_length: 1000, accepts: [tools]}
  - {name: large, endpoints: ['http://b:1'], accepts: [tools, json_schema]}
  - {name: vision, endpoints: ['http://c:1'], accepts: [images]}
policies:
  - name: p
    classifier: task
    routes: {Open QA: small, Code Generation: large, Other: vision}
    default: large
    confidence_floor: 0.4
    fallbacks: [small]
  - name: bare
    classifier: task
    routes: {Open QA: small, Other: vision}
";

fn snapshot() -> Snapshot {
    waypost_config::load_str(CONFIG, "test", &|_| None).unwrap()
}

fn names(snapshot: &Snapshot, policy: usize, choice: Choice<'_>, demand: Demand) -> Vec<String> {
    let plan = plan(snapshot, Some(&snapshot.policies[policy]), choice, &demand).unwrap();
    plan.models.iter().map(|(m, r)| format!("{}:{}", snapshot.models[*m].name, r.as_str())).collect()
}

#[test]
fn the_label_decides_and_the_rest_stands_by() {
    let s = snapshot();
    let text = Demand::default();
    assert_eq!(
        names(&s, 0, Choice::Label("Code Generation", Some(0.9)), text),
        ["large:label", "small:fallback"]
    );
    assert_eq!(names(&s, 0, Choice::Label("Open QA", Some(0.9)), text), ["small:label", "large:fallback"]);
    assert_eq!(
        names(&s, 0, Choice::Label("Open QA", Some(0.39)), text),
        ["large:low_confidence", "small:fallback"]
    );
    assert_eq!(names(&s, 0, Choice::Label("Open QA", None), text)[0], "small:label");
    assert_eq!(names(&s, 0, Choice::Label("Rewrite", Some(0.9)), text)[0], "large:unmapped_label");
    assert_eq!(names(&s, 0, Choice::NoLabel, text)[0], "large:classifier_failed");
    assert_eq!(names(&s, 0, Choice::Named(2), text), ["vision:named"]);
}

#[test]
fn a_model_never_gets_what_it_cannot_take() {
    let s = snapshot();
    let images = Demand { images: true, ..Demand::default() };
    let plan = plan(&s, Some(&s.policies[0]), Choice::Label("Open QA", Some(0.9)), &images).unwrap();
    assert_eq!(plan.models[..], [(2, Reason::Capable)], "found among the policy's routes");
    assert_eq!(plan.unfit[..], [(0, Unfit::NoImages), (1, Unfit::NoImages)]);

    let long = Demand { text_bytes: 3_900, max_tokens: 26, ..Demand::default() };
    assert_eq!(long.tokens(), 1001);
    assert_eq!(names(&s, 0, Choice::Label("Open QA", Some(0.9)), long), ["large:capable"]);

    let schema = Demand { json_schema: true, ..Demand::default() };
    let named = super::plan(&s, None, Choice::Named(0), &schema);
    assert_eq!(named, Err(Error::NoCapableModel(smallvec::smallvec![(0, Unfit::NoJsonSchema)])));
}

#[test]
fn without_a_default_the_reason_is_told() {
    let s = snapshot();
    let plan = |choice| super::plan(&s, Some(&s.policies[1]), choice, &Demand::default());
    assert_eq!(plan(Choice::Label("Rewrite", None)), Err(Error::LabelWithoutModel("Rewrite".into())));
    assert_eq!(plan(Choice::NoLabel), Err(Error::NoDefault));
    assert_eq!(plan(Choice::Label("Open QA", Some(0.1))).unwrap().models[..], [(0, Reason::Label)]);
}
