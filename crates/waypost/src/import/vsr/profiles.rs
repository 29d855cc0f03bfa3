//! vSR's routing profiles: the file's own `routing` and its recipes, and the model names that lead to each.
//!
//! Called by `vsr`.

use super::super::node::Node;
use super::super::notes::Notes;
use super::name;

/// A profile, which becomes a policy.
#[derive(Debug)]
pub(super) struct Profile<'a> {
    /// What the policy is called: for all but the first, the name that clients send.
    pub(super) name: String,
    pub(super) place: String,
    pub(super) node: &'a Node,
    /// Models of decisions, given by the entry point.
    pub(super) assignments: Option<&'a Node>,
    /// Model names that lead here.
    names: Vec<String>,
}

/// The profiles, the default one first.
#[derive(Debug)]
pub(super) struct Profiles<'a> {
    pub(super) list: Vec<Profile<'a>>,
    /// Names of the first, where they are not vSR's default ones.
    pub(super) auto_names: Option<Vec<String>>,
}

/// vSR's names of the default profile; Waypost's `auto_names` has the same default.
const AUTO: [&str; 3] = ["vllm-sr/auto", "auto", "MoM"];
/// The policy of a profile without a name.
const UNNAMED: &str = "vsr";
const DEFAULT: &str = "default";

/// Finds the profiles of a file.
///
/// # Errors
/// When something is not what it should be, with its place.
pub(super) fn read<'a>(root: &'a Node, notes: &mut Notes) -> Result<Profiles<'a>, String> {
    let mut list = Vec::new();
    let (base, place) = match root.get("routing") {
        Some(routing) => (routing, "routing"),
        None => (root, ""),
    };
    let recipes = root.list("the file", "recipes")?;
    if recipes.is_empty() || !base.list(place, "decisions")?.is_empty() {
        list.push(Profile::new(UNNAMED.to_owned(), place.to_owned(), base));
    }
    for (at, recipe) in recipes.iter().enumerate() {
        let name = name(recipe, &format!("recipes[{at}]"))?;
        let place = format!("recipes.{name}.routing");
        let Some(node) = recipe.get("routing") else {
            return Err(format!("`recipes.{name}` has no `routing`"));
        };
        node.entries(&format!("`{place}`"))?;
        list.push(Profile::new(name, place, node));
    }
    entrypoints(root, &mut list)?;
    let auto = auto(root)?;
    let is_auto = |profile: &Profile<'_>| profile.names.iter().any(|name| AUTO.contains(&&**name));
    let first = list
        .iter()
        .position(|profile| profile.name == UNNAMED || profile.name == DEFAULT)
        .or_else(|| list.iter().position(is_auto))
        .unwrap_or(0);
    list.swap(0, first);
    let mut names = auto.unwrap_or_else(|| AUTO.map(str::to_owned).to_vec());
    for (at, profile) in list.iter_mut().enumerate() {
        match (at, profile.names.split_first()) {
            (0, _) => names.extend(profile.names.iter().filter(|name| !AUTO.contains(&&***name)).cloned()),
            (_, None) => notes.at(
                profile.place.as_str(),
                "no entry point leads here: the policy can be asked for by its name",
            ),
            (_, Some((first, others))) => {
                if !others.is_empty() {
                    notes.at(&profile.name, format!("a policy has one name, `{first}`, for clients and in `x-vsr-selected-recipe`; these are left out: {}", others.join(", ")));
                }
                profile.name.clone_from(first);
            }
        }
    }
    let usual = names.len() == AUTO.len() && AUTO.iter().all(|name| names.iter().any(|known| known == name));
    Ok(Profiles { list, auto_names: Some(names).filter(|_| !usual) })
}

impl<'a> Profile<'a> {
    fn new(name: String, place: String, node: &'a Node) -> Self {
        Self { name, place, node, assignments: None, names: Vec::new() }
    }
}

fn entrypoints<'a>(root: &'a Node, list: &mut Vec<Profile<'a>>) -> Result<(), String> {
    for (at, entry) in root.list("the file", "entrypoints")?.iter().enumerate() {
        let place = format!("entrypoints[{at}]");
        entry.entries(&format!("`{place}`"))?;
        let wanted = entry.text(&place, "recipe")?.unwrap_or(DEFAULT);
        let names = entry.texts(&place, "model_names")?;
        let assignments = entry.get("assignments").filter(|node| **node != Node::Null);
        let leads =
            |profile: &Profile<'_>| profile.name == wanted || (wanted == DEFAULT && profile.name == UNNAMED);
        let Some(found) = list.iter().position(leads) else {
            return Err(format!("`{place}.recipe` names `{wanted}`, which is none of `recipes`"));
        };
        let taken = list.get(found).is_some_and(|profile| !profile.names.is_empty());
        if let (true, Some(_), Some(profile)) = (taken, assignments, list.get(found)) {
            // The same decisions with other models: a policy of its own.
            let mut other =
                Profile::new(names.first().cloned().unwrap_or_default(), profile.place.clone(), profile.node);
            (other.assignments, other.names) = (assignments, names);
            list.push(other);
        } else if let Some(profile) = list.get_mut(found) {
            profile.assignments = profile.assignments.or(assignments);
            profile.names.extend(names);
        }
    }
    Ok(())
}

/// The names of the default profile that the file gives.
fn auto(root: &Node) -> Result<Option<Vec<String>>, String> {
    let nothing = Node::Null;
    let (node, place) = match root.get("global").and_then(|global| global.get("router")) {
        Some(router) => (router, "global.router"),
        None => (root, "the file"),
    };
    let node = if matches!(node, Node::Map(_)) { node } else { &nothing };
    if node.get("auto_model_names").is_some() {
        return node.texts(place, "auto_model_names").map(Some);
    }
    let own = node.text(place, "auto_model_name")?.filter(|name| !name.is_empty());
    // It takes the third one's place.
    Ok(own.map(|own| AUTO.into_iter().take(2).chain([own]).map(str::to_owned).collect()))
}
